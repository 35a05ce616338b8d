"""Every command that the README and the guides of the runner show is run, or (a long training) parsed, here."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md",)
_BASH = re.compile(r"^```bash\n(.*?)^```", re.DOTALL | re.MULTILINE)
_PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\((?!https?://)([^)#]+)[^)]*\)")

STUDY = """
from sf_runner import Experiment, ParamGrid, RunDescription
program = "from sf_runner.progress import report; print('started'); report(step=1, total=1, reward=2.5)"
grid = ParamGrid([("seed", [1, 2, 3])])
RUN_DESCRIPTION = RunDescription(
    "my_study", experiments=[Experiment("basic", ["python", "-c", program], grid.generate_params())]
)
"""


def commands(page: str) -> list[str]:
    """The commands of a page, one each, comments and continuation lines resolved."""
    found = []
    for block in _BASH.findall((ROOT / page).read_text()):
        for line in block.replace("\\\n", " ").splitlines():
            text = line.split("  #")[0].strip()
            if text and not text.startswith("#"):
                found.append(text)
    return found


ALL = [(page, command) for page in PAGES for command in commands(page)]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small study called `my_study` that has been run."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "my_study.py").write_text(STUDY)
    (folder / "job.template").write_text('ngc batch run --name "{{ name }}" --commandline "{{ experiment_cmd }}"')
    done = run([sys.executable, "-m", "sf_runner.run", "--run=my_study", "--ui=plain"], folder)
    assert done.returncode == 0, done.stderr
    return folder


def run(argv: list[str], cwd: Path, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL
    )


def test_pages_show_commands() -> None:
    assert len(ALL) >= 10


@pytest.mark.parametrize(("page", "command"), ALL, ids=[f"{page}: {command[:60]}" for page, command in ALL])
def test_command(page: str, command: str, workplace: Path) -> None:
    for part in command.split(" && "):
        check(part.strip(), workplace)


def check(command: str, workplace: Path) -> None:
    argv = shlex.split(command)
    if argv[0] in ("python3", ".") or argv[:2] == ["pip", "install"] or argv[0] == "git":
        return  # setting up: .ci/run and all_tests.sh do it
    if argv[0].startswith("./"):
        assert os.access(ROOT / argv[0], os.X_OK), command
        return
    assert argv[:2] == ["python", "-m"], f"no rule for: {command}"
    module, arguments = argv[2], argv[3:]
    argv = [sys.executable, "-m", module, *arguments]
    if module == "sf_runner.run":
        dry_run(argv, workplace)
    elif module.startswith("sf_algo."):
        parses(module, arguments)
    elif module == "sf_runner.tb":
        until_it_serves([*argv, "--port=0"], workplace)
    else:
        done = run(argv, workplace)
        assert done.returncode == 0, f"{command}\n{done.stderr}"


def dry_run(argv: list[str], workplace: Path) -> None:
    """The plan is made and checked; asking for GPUs needs some, so those commands are told to do without."""
    argv = [argument for argument in argv if not argument.startswith(("--num_gpus", "--experiments_per_gpu"))]
    argv = [argument for argument in argv if not argument.startswith(("--gpu_", "--gpus"))]
    done = run([*argv, "--dry_run"], workplace)
    assert done.returncode == 0, done.stderr
    assert "experiments in" in done.stdout


def parses(module: str, arguments: list[str]) -> None:
    """A training is long: its command line is parsed by the program itself, which shows its help for it."""
    done = run([sys.executable, "-m", module, *arguments, "--help"], ROOT)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()


def until_it_serves(argv: list[str], workplace: Path) -> None:
    process = subprocess.Popen(
        argv, cwd=workplace, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        deadline = time.monotonic() + 120
        for line in process.stdout:
            if "http" in line:
                return
            assert time.monotonic() < deadline
        pytest.fail(f"{' '.join(argv)} ended with {process.wait()} before it served anything")
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    missing = [
        link for link in _LINK.findall((ROOT / page).read_text()) if not (ROOT / page).parent.joinpath(link).exists()
    ]
    assert not missing


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_are_run_descriptions(page: str, tmp_path: Path) -> None:
    for number, block in enumerate(_PYTHON.findall((ROOT / page).read_text())):
        if "RUN_DESCRIPTION" in block:
            (tmp_path / f"block_{number}.py").write_text(block)
            done = run([sys.executable, "-m", "sf_runner.run", f"--run=block_{number}", "--dry_run"], tmp_path)
            assert done.returncode == 0, done.stderr
        else:
            compile(block, f"{page} block {number}", "exec")
