"""Trainings of several policies as commands: one that is slow, dead or never ends an episode holds nobody up."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from sf_algo.checkpoints import CheckpointStore, load_checkpoint
from sf_algo.config.resolve import configure
from sf_algo.errors import ConfigError
from sf_algo.training.launch import run_training
from tests.algo.training_command import TrainingCommand

ROOT = Path(__file__).parent.parent.parent
SMALL = (
    "--num_workers=1",
    "--num_envs_per_worker=8",
    "--worker_num_splits=2",
    "--rollout=8",
    "--batch_size=64",
    "--num_policies=2",
    "--use_rnn=False",
    "--hidden_size=16",
    "--encoder_mlp_layers",
    "16",
    "--device=cpu",
    "--status_interval=0.5",
    "--decorrelate_experience_max_seconds=0",
)


def command(folder: Path, env: str, *flags: str) -> TrainingCommand:
    words = (f"--env={env}", *SMALL, f"--train_dir={folder}", "--experiment=e", *flags)
    return TrainingCommand(*words, env={"PYTHONPATH": str(ROOT)})


def results(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "e" / "results.json").read_text())
    return document


COUNTING = "sf_algo.testing:make_counting"
MATCHES = "tests.algo.match_envs:make_highest_wins"


def frames_in(line: str) -> float:
    match = re.search(r"([\d.]+)(k|M)? frames", line)
    assert match, line
    return float(match[1]) * {"k": 1e3, "M": 1e6, None: 1}[match[2]]


def test_a_stopped_learner_holds_nobody_up_and_goes_on_later(tmp_path: Path) -> None:
    with command(tmp_path, COUNTING, "--save_every_sec=1") as training:
        training.wait_for(r"saved .*checkpoint_p1")
        learners = training.pids("sf_learner")
        assert len(learners) == 2  # one process each
        os.kill(learners[1], signal.SIGSTOP)
        line = training.wait_for(r"trajectories dropped \(their policy is late\)")
        begun = frames_in(line)
        while frames_in(training.wait_for(r"\d frames")) < begun + 2000:
            pass  # the other policy goes on learning
        training.wait_for(r"saved .*checkpoint_p\d")  # and is saved
        os.kill(learners[1], signal.SIGCONT)
        stopped = 1 if "checkpoint_p0" in training.lines[-1] else 0
        training.wait_for(rf"saved .*checkpoint_p{stopped}")
        training.process.terminate()
        assert training.finish() == 128 + signal.SIGTERM
        training.wait_until_nothing_is_left()
    assert "Traceback" not in training.text
    assert min(policy["policy_version"] for policy in results(tmp_path)["policies"]) > 0


def test_episodes_that_never_end_hold_nobody_up(tmp_path: Path) -> None:
    env = "tests.algo.match_envs:make_first_is_endless"
    with command(tmp_path, env, "--train_for_env_steps=6000", "--seed=1") as training:
        assert training.finish() == 0, training.text
        training.wait_until_nothing_is_left()
    assert "(100.0%)" in training.lines[-1]
    assert all(policy["env_steps"] > 1000 for policy in results(tmp_path)["policies"])


def test_earlier_selves_play_and_train_nobody(tmp_path: Path) -> None:
    flags = ("--self_play=past", "--self_play_period_env_steps=1500", "--seed=1", "--save_every_sec=1")
    with command(tmp_path, MATCHES, *flags, "--num_policies=1", "--train_for_env_steps=9000") as training:
        training.wait_for(r"rating \d")
        assert len(training.pids("sf_learner")) == 1
        os.kill(training.pids("sf_worker")[0], signal.SIGKILL)  # its successor reads the same roster
        training.wait_for("it is started again")
        assert training.finish() == 0, training.text
        training.wait_until_nothing_is_left()
    (policy,) = results(tmp_path)["policies"]
    assert 0.0 < policy["metrics"]["win_rate"] < 1.0
    assert policy["self_play"]["rating"] != 1000.0
    # One of two agents is in training: as many episodes of it as there were matches, of four frames each.
    assert policy["episodes"] * 4 >= 0.5 * policy["env_steps"]
    pool = list((tmp_path / "e" / "checkpoint_p0" / "pool").iterdir())
    assert 3 <= len(pool) <= 10


@pytest.mark.slow
def test_kill_9_at_any_moment_of_self_play_leaves_a_pool_to_go_on_with(tmp_path: Path) -> None:
    flags = ("--self_play=past", "--self_play_period_env_steps=300", "--self_play_pool=4", "--num_policies=1")
    for moment in (r"rating \d", r"saved .*checkpoint_0", "goes on from", r"rating \d", r"saved .*checkpoint_0"):
        with command(tmp_path, MATCHES, *flags, "--save_every_sec=0.3") as training:
            training.wait_for(moment)
            os.kill(training.process.pid, signal.SIGKILL)
            assert training.finish() == -signal.SIGKILL
            training.wait_until_nothing_is_left()
        assert "left out" not in training.text
    with command(tmp_path, MATCHES, *flags, "--train_for_seconds=5") as training:
        assert training.finish() == 0, training.text
    folder = tmp_path / "e" / "checkpoint_p0"
    saved = CheckpointStore(folder, keep=1).load_latest()
    assert saved is not None
    members = saved.checkpoint.runtime["rules"]["self_play"]["pool"]["members"]
    assert {member["file"] for member in members} == {path.name for path in (folder / "pool").iterdir()}
    assert all(load_checkpoint(path).policy_id == 0 for path in (folder / "pool").iterdir())


@pytest.mark.parametrize("env", ["CartPole-v1", "sf_algo.testing:make_memory"])
def test_earlier_selves_need_matches(tmp_path: Path, env: str) -> None:
    words = [f"--env={env}", *SMALL, f"--train_dir={tmp_path}", "--experiment=e", "--self_play=past"]
    with pytest.raises(ConfigError, match="earlier selves are opponents in matches of several agents"):
        run_training(configure(words).config)
    assert not (tmp_path / "e").exists()
