"""Serial training: reproducible to the last bit, also across a stop and a resume."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from sf_algo.checkpoints import Checkpoint, CheckpointStore
from sf_algo.config.resolve import configure
from sf_algo.paths import ExperimentPaths
from sf_algo.training import launch
from sf_algo.training.launch import run_training


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def train(folder: Path, *flags: str, name: str = "e") -> Checkpoint:
    """Trains in this process; returns the newest checkpoint."""
    fixed = [f"--train_dir={folder}", f"--experiment={name}", "--serial_mode=True", "--seed=3"]
    invocation = configure([*fixed, *flags])
    assert run_training(invocation.config) == 0
    loaded = CheckpointStore(ExperimentPaths(folder / name).checkpoints(0), keep=1).load_latest()
    assert loaded is not None
    return loaded.checkpoint


def assert_equal(left: Any, right: Any, where: str = "learner") -> None:
    """Nested containers are equal, tensors to the last bit."""
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right), where
    elif isinstance(left, Mapping):
        assert left.keys() == right.keys(), where
        for key in left:
            assert_equal(left[key], right[key], f"{where}.{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), where
        for index, (a, b) in enumerate(zip(left, right, strict=True)):
            assert_equal(a, b, f"{where}[{index}]")
    else:
        assert left == right, where


SMALL = ("--hidden_size=16", "--rollout=8", "--batch_size=64", "--num_envs_per_worker=4")
CASES = {
    "cartpole": ("--env=CartPole-v1", *SMALL, "--num_batches_per_iteration=2", "--normalize_input=True"),
    "memory with a recurrent core": ("--env=sf_algo.testing:make_memory", *SMALL, "--use_rnn=True"),
    "truncated episodes": ("--env=Pendulum-v1", *SMALL, "--use_rnn=True", "--rnn_type=lstm"),
    "earlier selves": (
        "--env=tests.algo.match_envs:make_highest_wins",
        *SMALL,
        "--num_policies=2",
        "--self_play=mix",
        "--self_play_period_env_steps=250",
        "--self_play_choice=hard",
        "--self_play_opponents=2",
        "--self_play_pool=3",
    ),
    "two policies": ("--env=sf_algo.testing:make_memory", *SMALL, "--num_policies=2", "--use_rnn=True"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path, case: str) -> None:
    flags = (*CASES[case], "--train_for_env_steps=1500")
    first = train(tmp_path, *flags, name="first")
    again = train(tmp_path, *flags, name="again")
    assert first.policy_version > 5
    assert_equal(first.learner, again.learner)
    other = train(tmp_path, *flags, "--seed=4", name="other")
    with pytest.raises(AssertionError):
        assert_equal(first.learner, other.learner)


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path: Path, case: str) -> None:
    flags = CASES[case]
    whole = train(tmp_path, *flags, "--train_for_env_steps=2400", name="whole")
    part = train(tmp_path, *flags, "--train_for_env_steps=1100", name="part")
    resumed = train(tmp_path, *flags, "--train_for_env_steps=2400", name="part")
    assert part.policy_version < resumed.policy_version == whole.policy_version
    assert resumed.env_steps == whole.env_steps
    assert_equal(resumed.learner, whole.learner)
    assert_equal(resumed.runtime, whole.runtime, "runtime")


def test_stopping_in_the_middle_of_a_rollout_changes_nothing_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = CASES["memory with a recurrent core"]
    whole = train(tmp_path, *flags, "--train_for_env_steps=2400", name="whole")
    stop_after_steps(monkeypatch, steps=203)  # 203 = 25 rollouts of 8 and 3 rows
    part = train(tmp_path, *flags, name="part")
    assert part.runtime["sampler"]["split"]["row"] == 3
    monkeypatch.undo()
    resumed = train(tmp_path, *flags, "--train_for_env_steps=2400", name="part")
    assert_equal(resumed.learner, whole.learner)


def stop_after_steps(monkeypatch: pytest.MonkeyPatch, *, steps: int) -> None:
    """Ends the next training, as its time limit would, after so many steps of the split."""
    from sf_algo.rollout.split import EnvSplit

    conditions: list[launch.StopCondition] = []
    make_condition = launch.StopCondition

    def remember(**arguments: Any) -> launch.StopCondition:
        conditions.append(make_condition(**arguments))
        return conditions[-1]

    step = EnvSplit.step
    count = 0

    def counted(self: EnvSplit) -> bool:
        nonlocal count
        count += 1
        if count == steps:
            conditions[-1].request(launch.StopReason.TIME)
        return step(self)

    monkeypatch.setattr(launch, "StopCondition", remember)
    monkeypatch.setattr(EnvSplit, "step", counted)
