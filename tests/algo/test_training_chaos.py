"""Trainings that are killed, stopped or broken: what they say and keep, and that nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from sf_algo import testing
from tests.algo.training_command import TrainingCommand

WORKER, LEARNER = "sf_worker", "sf_learner"
SMALL = (
    "--env=sf_algo.testing:make_counting",
    "--num_workers=2",
    "--num_envs_per_worker=4",
    "--rollout=8",
    "--batch_size=64",
    "--use_rnn=False",
    "--hidden_size=16",
    "--status_interval=0.5",
    "--decorrelate_experience_max_seconds=0",
)


def command(folder: Path, *flags: str, env: dict[str, str] | None = None) -> TrainingCommand:
    return TrainingCommand(*SMALL, f"--train_dir={folder}", "--experiment=e", *flags, env=env)


def results(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "e" / "results.json").read_text())
    return document


def test_kill_9_of_the_main_process_at_any_time_leaves_nothing_and_the_next_start_resumes(
    tmp_path: Path,
) -> None:
    moments = {"start": "training on", "steady state": r"fps \d", "checkpointing": "saved"}
    for moment, pattern in moments.items():
        with command(tmp_path, "--save_every_sec=0.3") as training:
            training.wait_for(pattern)
            if moment == "checkpointing":
                assert "goes on from" in training.text
            os.kill(training.process.pid, signal.SIGKILL)
            assert training.finish() == -signal.SIGKILL
            training.wait_until_nothing_is_left()
        if moment == "steady state":
            with command(tmp_path, "--train_for_env_steps=1") as training:
                training.finish()
    with command(tmp_path, "--train_for_seconds=8") as training:
        assert training.finish() == 0
        assert "goes on from" in training.text
        training.wait_until_nothing_is_left()
    assert results(tmp_path)["outcome"] == "finished"


def test_kill_9_of_a_worker_and_of_the_learner_heals(tmp_path: Path) -> None:
    with command(tmp_path) as training:
        training.wait_for(r"fps \d")
        os.kill(training.pids(WORKER)[0], signal.SIGKILL)
        line = training.wait_for("was killed by SIGKILL")
        assert "rollout worker" in line
        assert "it is started again (1 of 3)" in line
        training.wait_for(r"fps [1-9]")
        os.kill(training.pids(LEARNER)[0], signal.SIGKILL)
        line = training.wait_for("the learner process was killed by SIGKILL")
        assert "it is started again (1 of 3)" in line
        training.wait_for(r"lag ")
        training.process.terminate()
        assert training.finish() == 128 + signal.SIGTERM
        training.wait_until_nothing_is_left()
    assert not [line for line in training.lines if line.startswith("error: ")]
    assert results(tmp_path)["outcome"] == "stopped"


@pytest.mark.parametrize(
    ("number", "flags"),
    [(signal.SIGTERM, ("--serial_mode=True",)), (signal.SIGINT, ("--async_rl=True",))],
    ids=["SIGTERM serial", "SIGINT asynchronous"],
)
def test_a_signal_saves_and_stops(tmp_path: Path, number: signal.Signals, flags: tuple[str, ...]) -> None:
    with command(tmp_path, *flags) as training:
        training.wait_for(r"fps [1-9]")
        os.kill(training.process.pid, number)
        assert training.finish() == 128 + number
        training.wait_until_nothing_is_left()
    assert "Traceback" not in training.text
    assert list((tmp_path / "e" / "checkpoint_p0").glob("checkpoint_*.pth"))
    assert results(tmp_path)["outcome"] == "stopped"


def test_term_to_all_of_its_processes_saves_and_stops(tmp_path: Path) -> None:
    """As clusters do, and a runner that ends an experiment."""
    with command(tmp_path, "--async_rl=True") as training:
        training.wait_for(r"fps [1-9]")
        pids = training.pids()
        assert len(pids) > 2
        for pid in sorted(pids, reverse=True):  # the main process last
            os.kill(pid, signal.SIGTERM)
        assert training.finish() == 128 + signal.SIGTERM
        training.wait_until_nothing_is_left()
    assert "Traceback" not in training.text
    assert "killed by" not in training.text
    assert list((tmp_path / "e" / "checkpoint_p0").glob("checkpoint_*.pth"))
    assert results(tmp_path)["outcome"] == "stopped"


@pytest.mark.parametrize("mode", [pytest.param("--serial_mode=True", marks=pytest.mark.slow), "--async_rl=True"])
def test_a_training_that_was_suspended_goes_on(tmp_path: Path, mode: str) -> None:
    """As by Ctrl-Z, or by a cluster that needs the node for a while: for longer than an environment may be silent."""
    with command(tmp_path, mode, "--heartbeat_interval=1", "--reset_timeout_seconds=3") as training:
        training.wait_for(r"fps [1-9]")
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in training.pids():
                os.kill(pid, number)
            if number == signal.SIGSTOP:
                assert not training.ended_within(4.5)
        for _ in range(5):
            training.wait_for(r"fps \d")
        os.kill(training.process.pid, signal.SIGTERM)
        assert training.finish() == 128 + signal.SIGTERM
        training.wait_until_nothing_is_left()
    assert "has not" not in training.text


@pytest.mark.parametrize("mode", ["--serial_mode=False", "--serial_mode=True"])
def test_the_time_limit_counts_from_the_first_frame(tmp_path: Path, mode: str) -> None:
    slow = {testing.START_SECONDS_VARIABLE: "1.5"}
    flags = ("--env=sf_algo.testing:make_slow", "--num_envs_per_worker=2", "--train_for_seconds=1", mode)
    with command(tmp_path, *flags, env=slow) as training:
        training.wait_for(r"first frame \d+\.\d s after the start of the command")
        training.wait_for("train_for_seconds is over")
        assert training.finish(40) == 0
        training.wait_until_nothing_is_left()
    assert results(tmp_path)["env_steps"] > 0
    assert results(tmp_path)["train_seconds"] >= 1.0
    with command(tmp_path, *flags, env=slow) as training:  # the time of both starts counts
        assert training.finish(40) == 0
    assert "first frame" not in training.text


@pytest.mark.parametrize("mode", ["--serial_mode=False", "--serial_mode=True"])
def test_environments_that_never_start_end_the_run_before_time_counts(tmp_path: Path, mode: str) -> None:
    never = {testing.START_SECONDS_VARIABLE: "3600"}
    flags = ("--env=sf_algo.testing:make_slow", "--train_for_seconds=1", "--reset_timeout_seconds=0.3", mode)
    with command(tmp_path, *flags, env=never) as training:
        assert training.finish(60) == 1
        training.wait_until_nothing_is_left()
    errors = [line for line in training.lines if line.startswith("error: ")]
    assert len(errors) == 1
    assert "--reset_timeout_seconds" in errors[0]
    assert "first frame" not in training.text


def test_a_hanging_environment_without_workers_ends_the_run_with_its_stack(tmp_path: Path) -> None:
    env = {testing.BREAK_AFTER_VARIABLE: "300"}
    flags = ("--env=sf_algo.testing:make_hanging", "--serial_mode=True", "--heartbeat_interval=0.3")
    with command(tmp_path, *flags, env=env) as training:
        assert training.finish() == 1
        training.wait_until_nothing_is_left()
    errors = [line for line in training.lines if line.startswith("error: ")]
    assert len(errors) == 1
    assert "has not come back from its step for 0.9 s" in errors[0]
    assert "testing.py" in training.text
    assert list((tmp_path / "e" / "checkpoint_p0").glob("checkpoint_*.pth"))
