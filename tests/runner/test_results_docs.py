"""The commands and flags in docs/results.md."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from run_descriptions.example_grid import RUN_DESCRIPTION
from sf_runner import report, tb
from sf_runner.progress import ProgressWriter
from tests.runner.result_runs import DescribedRun

DOCUMENT = Path(__file__).parents[2] / "docs" / "results.md"
COMMANDS = re.findall(r"^python -m sf_runner\.(tb|report)(.*)$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example's run under ./train_dir, all of its experiments done."""
    monkeypatch.chdir(tmp_path)
    run = DescribedRun(Path("train_dir"), RUN_DESCRIPTION)
    for job in run.plan.jobs:
        run.attempt(job, "succeeded")
        clock = iter(range(0, 100, 10))
        writer = ProgressWriter(job.paths.progress, clock=lambda ticks=clock: float(next(ticks)))  # type: ignore[misc]
        for step in (0, 10, 20):
            writer.update(step=step, metrics={"reward": step + job.index, "greedy_return": -13})
    run.close()
    return tmp_path


@pytest.mark.parametrize(("command", "arguments"), COMMANDS)
def test_the_documented_commands_work(
    example: Path, capsys: pytest.CaptureFixture[str], command: str, arguments: str
) -> None:
    if command == "tb":  # as far as the real tensorboard, which has tests of its own
        assert tb.main([*shlex.split(arguments), "--list"]) == 0
    else:
        assert report.main(shlex.split(arguments)) == 0
    told = capsys.readouterr()
    assert not [line for line in told.err.splitlines() if not line.startswith("note: parquet needs pyarrow")]
    if command == "tb":
        experiments = 3 if "7571787" in arguments else 12
        assert f"{experiments} experiments of 1 run" in told.out
    else:
        assert "| learning_rate |" in told.out
        assert "\nwritten to " in told.out


def test_there_are_commands_for_both() -> None:
    assert {command for command, _ in COMMANDS} == {"tb", "report"}


def test_the_documented_flags_exist() -> None:
    known = {flag for parser in (tb._parser(), report._parser()) for a in parser._actions for flag in a.option_strings}
    flags = set(re.findall(r"(?<![\w-])--[a-z_]+", DOCUMENT.read_text(encoding="utf-8")))
    assert flags
    assert flags <= known
