"""Run names that change by themselves: what a start says of them, and that a runner keeps the first one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest

from sf_runner import run
from sf_runner.basics.paths import RunPaths
from sf_runner.cli.run_name import name_note
from sf_runner.describe.changing_name import holds_the_time, look_alikes
from sf_runner.state import events as ev
from sf_runner.state.jobs import Running
from sf_runner.store.journal import Journal
from tests.runner.harness import ROOT, RunUnderTest, shell

NOW = datetime(2026, 11, 29, 8, 31, 5).timestamp()
UTC = datetime.fromtimestamp(NOW, timezone.utc)


@pytest.mark.parametrize(
    "name",
    [
        "study_2026-11-29_08-31-05",
        "study_20261129083105",
        "study_08:31:04",
        "study_08.31",  # see below
        "study_29Nov_0831",
        "study_Nov29_08-30",
        "29.11.2026 08h31 study",
        "study_0831_1129",
        f"study_{int(NOW) - 3}",
        f"study_{(NOW - 3) * 1000:.0f}",
        f"study_{UTC:%Y%m%dT%H%M%SZ}",
    ],
)
def test_names_that_hold_the_time(name: str) -> None:
    expected = name != "study_08.31"  # four digits alone may mean anything
    assert holds_the_time(name, NOW) == expected


@pytest.mark.parametrize(
    "name", ["study", "study_v2", "doom_4096_512", "study_2026-11-29", "study_2026-11-29_08-20-05", "s_0831", "1" * 60]
)
def test_names_that_do_not(name: str) -> None:
    assert not holds_the_time(name, NOW)


def test_names_that_look_alike() -> None:
    others = ["study_2026-11-28", "study_v2", "study", "other_2026-11-28", "study_2026-11-29"]
    assert look_alikes("study_2026-11-29", others) == ["study_2026-11-28"]
    assert look_alikes("study_v3", others) == []
    assert look_alikes("study", others) == []
    assert look_alikes("s_3f2a91bc", ["s_91c0ffee", "s_x"]) == ["s_91c0ffee"]
    assert look_alikes("s_Nov29_0831", ["s_Oct2_1201", "s_baseline"]) == ["s_Oct2_1201"]


def earlier_run(train_dir: Path, name: str, command: list[str]) -> None:
    paths = RunPaths(train_dir=train_dir, run_name=name)
    journal, _ = Journal.open(paths.journal, name)
    journal.append([ev.RunOpened(t=1.0, pid=1, host="h", backend="processes", max_parallel=1, command=command)])
    journal.close()


def test_what_is_said(tmp_path: Path) -> None:
    def note(name: str, *command: str) -> str:
        return name_note(RunPaths(train_dir=tmp_path, run_name=name), command, NOW)

    timed = "run_name 's_2026-11-29_08-31-05' holds the time: every start is a new run that continues no other"
    assert note("s_2026-11-29_08-31-05", "--run=x").startswith(timed)
    assert note("study", "--run=x") == ""
    earlier_run(tmp_path, "s_2026-11-27_10-00-00", ["--run=x"])
    earlier_run(tmp_path, "s_2026-11-28_10-00-00", ["--run=x"])
    earlier_run(tmp_path, "s_2026-11-28_11-00-00", ["--run=other"])
    before = "the same command has started 's_2026-11-28_10-00-00' and 1 more before, and "
    assert note("s_2026-11-29_08-31-05", "--run=x").startswith(before + timed)
    assert note("s_2026-11-20_00-00-00", "--run=x").startswith(before + "'s_2026-11-20_00-00-00' is a new run that")
    assert note("s_2026-11-28_10-00-00", "--run=x") == "", "that run goes on"
    assert note("s_2026-11-29_00-00-00", "--run=third") == ""


def test_a_start_and_a_dry_run_say_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.py").write_text(
        "import time\nfrom sf_runner import Experiment, RunDescription\n"
        "RUN_DESCRIPTION = RunDescription(time.strftime('s_%Y%m%d_%H%M%S'), [Experiment('job', 'true')])\n"
    )
    assert run.main(["--run=study.py", "--dry_run", "--num_gpus=0"]) == 0
    assert "holds the time: every start is a new run" in capsys.readouterr().out
    command = [sys.executable, "-m", "sf_runner.run", "--run=study.py", "--ui=plain", "--num_gpus=0"]
    shown = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert shown.returncode == 0
    assert "holds the time: every start is a new run" in shown.stdout


def test_a_runner_that_takes_the_place_of_a_killed_one_keeps_the_name(make: Callable[..., RunUnderTest]) -> None:
    made = make(shell("job", "until [ -e go ]; do sleep 0.05; done"))
    description = made.folder / "description.py"
    named = "'chaos' if not os.path.exists('named') else 'other'"
    text = description.read_text().replace('"chaos"', named)
    description.write_text(f"import os\n{text}\nopen('named', 'w').close()\n")
    made.start("--max_parallel=1")
    made.wait_for("job", Running)
    first = made.runner
    os.kill(first, signal.SIGKILL)
    made.wait("another runner", lambda state: len(state.runners) == 2)
    (made.folder / "go").touch()
    assert made.finish() == 0
    assert not (made.paths.train_dir / "other").exists()
    assert made.job("job").attempts == 1
