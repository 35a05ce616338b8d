"""What the commands do when nobody reads their output, or it cannot show every character."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runner.golden import FOLDER

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def train_dir(tmp_path: Path) -> Path:
    runner = tmp_path / "train_dir" / "golden" / ".runner"
    runner.mkdir(parents=True)
    shutil.copy(FOLDER / "journal_v1.jsonl", runner / "journal.jsonl")
    return tmp_path / "train_dir"


def shell(command: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHON": sys.executable, **environ}
    return subprocess.run(["bash", "-c", command], cwd=cwd, env=env, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("arguments", [["golden"], ["golden", "--json"], []])
def test_output_that_nobody_reads(train_dir: Path, arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        [sys.executable, "-m", "sf_runner.status", *arguments],
        cwd=train_dir.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=120,
    )
    os.close(writer)
    assert (result.returncode, result.stderr) == (141, b"")


@pytest.mark.parametrize("streams", [">&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_streams(train_dir: Path, streams: str) -> None:
    result = shell(f'"$PYTHON" -m sf_runner.status golden {streams}', train_dir.parent)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_fault_with_a_closed_stdout_is_still_told(train_dir: Path) -> None:
    result = shell('"$PYTHON" -m sf_runner.status nothing >&-', train_dir.parent)
    assert result.returncode == 2
    assert result.stderr.startswith("error: No run 'nothing'")


def test_a_terminal_that_knows_only_ascii(train_dir: Path) -> None:
    (train_dir.parent / "study.py").write_text(
        "from sf_runner import Experiment, RunDescription\n"
        "experiments = [Experiment('job', ['echo', 'na\\u00efve \\udcff'])]\n"
        "RUN_DESCRIPTION = RunDescription('study', experiments=experiments)\n"
    )
    command = '"$PYTHON" -m sf_runner.run --run=study.py --dry_run --num_gpus=0'
    result = shell(command, train_dir.parent, PYTHONIOENCODING="ascii")
    assert result.returncode == 0, result.stderr
    assert r"echo 'na\xefve \udcff'" in result.stdout
