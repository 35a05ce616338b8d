"""Whole trainings: they learn, in every mode, and tell what they did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sf_algo.config.resolve import configure
from sf_algo.training.launch import run_training


def train(folder: Path, *flags: str) -> dict[str, Any]:
    """Trains in this process (and its children); returns the results."""
    torch.set_num_threads(1)
    fixed = [f"--train_dir={folder}", "--experiment=e", "--seed=1", "--learner_main_loop_num_cores=1"]
    assert run_training(configure([*fixed, *flags]).config) == 0
    document: dict[str, Any] = json.loads((folder / "e" / "results.json").read_text())
    return document


CARTPOLE = ("--env=CartPole-v1", "--train_for_env_steps=60000")
MODES = {
    "serial": ("--serial_mode=True",),
    "pipelined": ("--serial_mode=True", "--async_rl=True"),
    "synchronous": ("--num_workers=2", "--async_rl=False"),
    "asynchronous": ("--num_workers=2",),
}


@pytest.mark.parametrize(
    "mode", [pytest.param(mode, marks=pytest.mark.slow) if mode == "synchronous" else mode for mode in MODES]
)
def test_cartpole_is_learned_in_every_mode(tmp_path: Path, mode: str) -> None:
    found = train(tmp_path, *CARTPOLE, *MODES[mode])
    assert found["metrics"]["reward"] > 150  # a random policy gets about 20
    # Beside the limit lies what is collected until the main thread looks again, which depends on the speed.
    assert 60_000 <= found["env_steps"] < 64_000
    assert found["outcome"] == "finished"


def test_several_policies_learn_independently(tmp_path: Path) -> None:
    found = train(tmp_path, *CARTPOLE, "--serial_mode=True", "--num_policies=2")
    rewards = [policy["metrics"]["reward"] for policy in found["policies"]]
    assert len(rewards) == 2
    assert min(rewards) > 60
    assert sum(policy["env_steps"] for policy in found["policies"]) == found["env_steps"]
    for policy in range(2):
        assert list((tmp_path / "e" / f"checkpoint_p{policy}").glob("checkpoint_*.pth"))


MEMORY = (
    "--env=sf_algo.testing:make_memory",
    "--serial_mode=True",
    "--hidden_size=32",
    "--rollout=16",
    "--batch_size=512",
    "--num_envs_per_worker=32",
    "--learning_rate=0.003",
    "--train_for_env_steps=80000",
)


@pytest.mark.slow
@pytest.mark.parametrize("rnn", ["gru", "lstm", "none"])
def test_remembering_needs_a_recurrent_core(tmp_path: Path, rnn: str) -> None:
    core = ("--use_rnn=False",) if rnn == "none" else ("--use_rnn=True", f"--rnn_type={rnn}")
    reward = train(tmp_path, *MEMORY, *core)["metrics"]["reward"]
    if rnn == "none":
        assert reward < 0.5  # 0 on average: it can only guess
    else:
        assert reward > 0.9
