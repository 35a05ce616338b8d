"""The guide of the trainer is true: commands parse, examples run, names exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sf_algo.config import Command, parse_args
from sf_algo.config.flags import flags_by_spelling
from sf_algo.own.additions import NOTHING_ADDED

ROOT = Path(__file__).parent.parent.parent
GUIDE = (ROOT / "docs" / "trainer.md").read_text()
MODULES = {command.value: command for command in Command}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    return [line for block in blocks("bash") for line in block.splitlines() if line.strip()]


def trainer_commands() -> list[str]:
    return [line for line in commands() if MODULES.keys() & set(shlex.split(line))]


@pytest.mark.parametrize("line", trainer_commands())
def test_commands_parse(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in examples(tmp_path):
        sys.modules.pop(name, None)
    monkeypatch.syspath_prepend(str(tmp_path))
    python, dash_m, module, *argv = shlex.split(line)
    assert (python, dash_m) == ("python", "-m")
    if "--help" not in argv:
        assert parse_args(argv, MODULES[module], NOTHING_ADDED).notes == ()


def test_other_commands_exist() -> None:
    others = [shlex.split(line) for line in commands() if line not in trainer_commands()]
    assert ["tensorboard", "--logdir=train_dir"] in others
    modules = [words[2] for words in others if words[0] == "python"]
    assert modules == ["sf_algo.envs.doom.download_scenarios"]
    assert all((ROOT / (module.replace(".", "/") + ".py")).is_file() for module in modules)


def test_flags_that_the_text_names_exist() -> None:
    named = set(re.findall(r"--([a-z_0-9]+)", GUIDE)) - {"help", "logdir", "name", "env", "length", "copies"}
    table = GUIDE[GUIDE.index("| group | flags |") : GUIDE.index("Command lines of Sample Factory")]
    named |= set(re.findall(r"`([a-z_0-9]+)`", table))
    assert named <= set(flags_by_spelling())
    assert len(named) > 60


def test_links_lead_somewhere() -> None:
    headings = re.findall(r"^##+ (.*)$", GUIDE, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]*)\)", GUIDE)) <= anchors
    files = re.findall(r"\]\(((?!#|http)[^)]*)\)", GUIDE)
    assert files
    assert all((ROOT / "docs" / file).is_file() for file in files)


def examples(folder: Path) -> list[str]:
    """Writes the guide's example files into `folder`; returns the names of the modules."""
    for text in blocks("python"):
        if re.match(r"# \w+\.py\n", text):
            (folder / text.split("\n", 1)[0].removeprefix("# ")).write_text(text)
    return sorted(path.stem for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the guide's example files."""
    assert examples(tmp_path) == ["corridor", "my_model", "vectors"]
    return tmp_path


def run(line: str, folder: Path, *more: str) -> str:
    """Runs a command of the guide in `folder`; returns what it printed."""
    words = [sys.executable, *shlex.split(line)[1:], *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def the_command(*parts: str) -> str:
    (line,) = [line for line in trainer_commands() if all(part in line for part in parts)]
    return line


def test_ones_own_environment_trains_and_ones_own_network_too(folder: Path) -> None:
    run(the_command("corridor:make_env"), folder, "--train_for_env_steps=2000")
    assert (folder / "train_dir" / "corridor" / "results.json").is_file()
    run(the_command("my_model:make_encoder"), folder, "--train_for_env_steps=2000")
    assert list((folder / "train_dir" / "mine" / "checkpoint_p0").glob("checkpoint_*.pth"))


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("rps", "pettingzoo"),
        ("past", "pettingzoo"),
        ("grid", "minigrid"),
        ("poles", "gymnasium"),
        pytest.param("pongs", "ale_py", marks=pytest.mark.slow),
    ],
)
def test_several_agents_and_vectors_train(name: str, package: str, folder: Path) -> None:
    pytest.importorskip(package)
    run(the_command(f"--experiment={name}"), folder, "--train_for_env_steps=3000")
    assert (folder / "train_dir" / name / "results.json").is_file()


def test_the_first_two_commands(folder: Path) -> None:
    run(the_command("train_appo", "--experiment=first"), folder, "--train_for_env_steps=2000")
    out = run(the_command("enjoy_appo", "--experiment=first"), folder, "--max_num_episodes=2")
    assert "reward" in out
    assert (folder / "train_dir" / "first" / "cfg.json").is_file()
