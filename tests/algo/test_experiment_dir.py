"""The experiment's folder: made, locked, cleared; when checkpoints are due; the log."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from sf_algo.config import RunConfig
from sf_algo.errors import ExperimentInUseError, StorageError
from sf_algo.experiment import ExperimentLock, clear_experiment, make_experiment_dir
from sf_algo.logging_setup import log_to_file_only, logging_to
from sf_algo.paths import ExperimentPaths
from sf_algo.save_schedule import RETRY_S, SaveSchedule


@pytest.fixture
def paths(tmp_path: Path) -> ExperimentPaths:
    paths = ExperimentPaths(tmp_path / "train_dir" / "e")
    make_experiment_dir(paths)
    return paths


def train(paths: ExperimentPaths) -> None:
    """Leaves what a training and its launcher leave."""
    paths.config.write_text("{}")
    for folder in (paths.checkpoints(0), paths.summary(0), paths.root / "job"):
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")


def test_second_training_is_refused(paths: ExperimentPaths) -> None:
    with ExperimentLock(paths), pytest.raises(ExperimentInUseError, match=f"by process {os.getpid()} on "):
        ExperimentLock(paths).__enter__()
    with ExperimentLock(paths):
        pass


def test_resume_changes_nothing(paths: ExperimentPaths) -> None:
    train(paths)
    assert clear_experiment(paths, "resume") is None
    assert (paths.checkpoints(0) / "file").exists()


def test_restart_keeps_the_old_training_aside(paths: ExperimentPaths) -> None:
    for number in (1, 2):
        (paths.root / "job" / "file").unlink(missing_ok=True)
        if (paths.root / "job").exists():
            (paths.root / "job").rmdir()
        train(paths)
        line = clear_experiment(paths, "restart")
        aside = paths.root.with_name(f"e_old{number}")
        assert line is not None
        assert str(aside) in line
        assert sorted(p.name for p in aside.iterdir()) == [".summary", "cfg.json", "checkpoint_p0"]
        assert [p.name for p in paths.root.iterdir()] == ["job"]
    assert clear_experiment(paths, "restart") is None


def test_overwrite_deletes_only_the_trainers_files(paths: ExperimentPaths) -> None:
    train(paths)
    assert clear_experiment(paths, "overwrite") is not None
    assert [p.name for p in paths.root.iterdir()] == ["job"]


def test_unwritable_train_dir(tmp_path: Path) -> None:
    (tmp_path / "train_dir").write_text("a file")
    with pytest.raises(StorageError, match=r"cannot write into .*/train_dir/e: "):
        make_experiment_dir(ExperimentPaths(tmp_path / "train_dir" / "e"))


def test_when_checkpoints_are_due() -> None:
    schedule = SaveSchedule(RunConfig(save_every_sec=10, save_milestones_sec=25), started=100)
    assert not schedule.save_due(109)
    assert schedule.save_due(110)
    schedule.saved(110)
    assert not schedule.save_due(119)
    assert not schedule.milestone_due(124)
    assert schedule.milestone_due(125)
    schedule.milestone_saved(125)
    assert not schedule.milestone_due(149)
    assert not SaveSchedule(RunConfig(), started=0).milestone_due(1e9)
    assert not SaveSchedule(RunConfig(benchmark=True), started=0).save_due(1e9)


def test_after_a_failed_save_everything_waits_a_little() -> None:
    schedule = SaveSchedule(RunConfig(save_every_sec=10, stats_avg=1, save_best_after=0), started=0)
    schedule.failed(100)
    assert not schedule.save_due(100 + RETRY_S - 1)
    assert not schedule.best_due(100 + RETRY_S - 1, env_steps=1, metric=1.0, episodes=1)
    assert schedule.save_due(100 + RETRY_S)
    assert schedule.best_due(100 + RETRY_S, env_steps=1, metric=1.0, episodes=1)


def test_when_the_best_is_worth_saving() -> None:
    run = RunConfig(save_best_after=1000, save_best_every_sec=5, stats_avg=10)
    schedule = SaveSchedule(run, started=0, best_metric=3.0)

    def due(now: float = 10, env_steps: int = 1000, metric: float | None = 4.0, episodes: int = 10) -> bool:
        return schedule.best_due(now, env_steps=env_steps, metric=metric, episodes=episodes)

    assert due()
    assert not due(env_steps=999)
    assert not due(metric=3.0)
    assert not due(metric=None)
    assert not due(metric=float("nan"))
    assert not due(episodes=9)
    schedule.best_saved(10, 4.0)
    assert not due(now=14, metric=5.0)
    assert schedule.best_due(14, env_steps=1000, metric=5.0, episodes=10, at_the_end=True)
    assert due(now=15, metric=5.0)
    assert not due(now=15, metric=4.0)


def test_log_goes_to_the_screen_and_to_the_end_of_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sf_log.txt"
    for text in ("first", "second"):
        with logging_to(path):
            logging.getLogger("sf_algo.summaries").info("the %s start", text)
    assert [line.split("] ")[-1] for line in capsys.readouterr().out.splitlines()] == [
        "the first start",
        "the second start",
    ]
    assert len(path.read_text().splitlines()) == 2
    assert logging.getLogger("sf_algo").handlers == []


def test_an_error_that_the_command_prints_itself_goes_to_the_file_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sf_log.txt"
    with logging_to(path) as log:
        log_to_file_only(log, "broken")
    assert capsys.readouterr() == ("", "")
    assert path.read_text().endswith("[ERROR] broken\n")


def test_unwritable_log(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot write log"), logging_to(tmp_path):
        pass


def test_a_full_disk_silences_the_log_file_only(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to(Path("/dev/full")) as log:
        log.info("one")
        log.info("two")
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    (warning,) = err.splitlines()
    assert warning == ("warning: cannot write log /dev/full: No space left on device; free some space on that disk")
