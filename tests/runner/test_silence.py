"""How long attempts have been silent: changes of their files, counted from the moment at which they were seen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sf_runner.basics.paths import JobPaths
from sf_runner.engine.silence import Silence


@pytest.fixture
def paths(tmp_path: Path) -> JobPaths:
    found = JobPaths(experiment_dir=tmp_path)
    found.job_dir.mkdir()
    return found


def look(silence: Silence, paths: JobPaths, now: float, attempt: int = 1) -> float | None:
    return silence.look([("job", attempt, paths)], now).get("job")


def test_signs_of_life_are_writes_to_log_and_progress(paths: JobPaths) -> None:
    silence, log = Silence(absent_s=100.0), paths.attempt_log(1)
    assert look(silence, paths, 1.0) is None
    log.touch()
    assert look(silence, paths, 50.0) is None  # made by us, nothing written yet
    log.write_text("x")
    assert look(silence, paths, 60.0) == 0.0
    assert look(silence, paths, 70.0) == 10.0
    log.write_text("xy")
    assert look(silence, paths, 80.0) == 0.0
    paths.progress.write_text("{}")
    assert look(silence, paths, 90.0) == 0.0
    draft = paths.progress.with_name("draft")
    draft.write_text("{}")
    draft.replace(paths.progress)
    assert look(silence, paths, 100.0) == 0.0
    assert look(silence, paths, 130.0) == 30.0
    assert silence.look([], 131.0) == {}
    assert look(silence, paths, 132.0) == 0.0


@pytest.mark.parametrize("off_s", [-1e6, 1e6])
def test_the_file_servers_clock_does_not_matter(paths: JobPaths, off_s: float) -> None:
    silence, log = Silence(absent_s=100.0), paths.attempt_log(1)
    for now in range(10):
        with log.open("a") as file:
            file.write("x")
        os.utime(log, (off_s + now, off_s + now))
        assert look(silence, paths, float(now)) == 0.0
    assert look(silence, paths, 20.0) == 11.0


def test_another_attempt_has_a_silence_of_its_own(paths: JobPaths) -> None:
    silence = Silence(absent_s=100.0)
    paths.attempt_log(1).write_text("x")
    assert look(silence, paths, 1.0) == 0.0
    assert look(silence, paths, 50.0) == 49.0
    assert look(silence, paths, 51.0, attempt=2) is None
    paths.attempt_log(2).write_text("x")
    assert look(silence, paths, 52.0, attempt=2) == 0.0


def test_silence_while_nobody_looked_counts_from_the_return(paths: JobPaths) -> None:
    """The runner was stopped, or not there: perhaps its experiments were, too."""
    silence = Silence(absent_s=5.0)
    paths.attempt_log(1).write_text("x")
    assert look(silence, paths, 1.0) == 0.0
    assert look(silence, paths, 4.0) == 3.0
    assert look(silence, paths, 1000.0) == 0.0
    assert look(silence, paths, 1003.0) == 3.0
