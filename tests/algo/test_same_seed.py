"""What a seed promises in which mode (docs/reliability.md); serial mode is in test_sampling_serial.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sf_algo.checkpoints import Checkpoint, CheckpointStore

ROOT = Path(__file__).parent.parent.parent
FLAGS = (
    "--env=CartPole-v1",
    "--hidden_size=16",
    "--rollout=8",
    "--batch_size=64",
    "--num_envs_per_worker=4",
    "--worker_num_splits=1",
    "--serial_mode=False",
    "--async_rl=False",
    "--decorrelate_experience_max_seconds=0",
)


def train(folder: Path, name: str, *flags: str) -> Checkpoint:
    words = [f"--train_dir={folder}", f"--experiment={name}", *FLAGS, *flags]
    subprocess.run([sys.executable, "-m", "sf_algo.train_appo", *words], cwd=ROOT, capture_output=True, check=True)
    loaded = CheckpointStore(folder / name / "checkpoint_p0", keep=1).load_latest()
    assert loaded is not None
    return loaded.checkpoint


def are_equal(left: Checkpoint, right: Checkpoint) -> bool:
    weights = left.learner["model"], right.learner["model"]
    return all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


@pytest.mark.slow
def test_one_worker_in_turn_with_learning_gives_the_same_weights(tmp_path: Path) -> None:
    flags = ("--num_workers=1", "--train_for_env_steps=1500")
    first, again = (train(tmp_path, name, "--seed=3", *flags) for name in ("first", "again"))
    assert first.policy_version > 10
    assert are_equal(first, again)
    assert not are_equal(first, train(tmp_path, "other", "--seed=4", *flags))


@pytest.mark.slow
def test_several_workers_begin_with_the_same_weights(tmp_path: Path) -> None:
    flags = ("--num_workers=2", "--seed=3", "--train_for_env_steps=32", "--learning_rate=1e-60", "--async_rl=True")
    flags += ("--normalize_input=False", "--normalize_returns=False")
    first, again = (train(tmp_path, name, *flags) for name in ("first", "again"))
    assert are_equal(first, again)
    assert not are_equal(first, train(tmp_path, "other", *flags, "--seed=4"))
