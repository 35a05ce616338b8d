"""Trainings with several agents in each environment: they learn from what they should, and survive the death of a
worker."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.algo.training_command import TrainingCommand

ROOT = Path(__file__).parent.parent.parent
SMALL = (
    "--num_workers=2",
    "--worker_num_splits=2",
    "--rollout=16",
    "--batch_size=128",
    "--device=cpu",
    "--use_rnn=False",
)
SMALL += ("--decorrelate_experience_max_seconds=0", "--encoder_mlp_layers", "16", "--hidden_size=16")
KINDS = {
    "lists": ("--env=tests.algo.test_env_agents:make_drones", "--num_envs_per_worker=4"),
    "parallel": ("--env=tests.algo.test_env_agents:make_hunt", "--num_envs_per_worker=4"),
    "roles": ("--env=tests.algo.test_env_agents:make_hunt", "--num_envs_per_worker=4", "--num_policies=2"),
    "turns": ("--env=tests.algo.test_env_agents:make_nim", "--num_envs_per_worker=4"),
    "vector": ("--env=tests.algo.test_env_lanes:make_counters", "--num_envs_per_worker=4"),
    "moved": ("--env=flock", "--num_envs_per_worker=4"),
}


def train(folder: Path, kind: str, *flags: str) -> TrainingCommand:
    module = "tests.algo.moved_project.train" if kind == "moved" else "sf_algo.train_appo"
    words = (*KINDS[kind], *SMALL, f"--train_dir={folder}", "--experiment=e", *flags)
    return TrainingCommand(*words, program=("-m", module), env={"PYTHONPATH": str(ROOT)})


@pytest.mark.parametrize(
    "kind",
    [kind if kind in ("parallel", "vector") else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS],
)
def test_a_killed_worker_is_replaced_and_the_training_goes_on(kind: str, tmp_path: Path) -> None:
    with train(tmp_path, kind, "--status_interval=0.5") as training:
        training.wait_for(r"fps [1-9]")
        os.kill(training.pids("sf_worker")[0], signal.SIGKILL)
        training.wait_for("it is started again")
        training.wait_for(r"fps [1-9]")
        training.process.terminate()
        assert training.finish() == 128 + signal.SIGTERM
        training.wait_until_nothing_is_left()
    results = json.loads((tmp_path / "e" / "results.json").read_text())
    assert all(policy["episodes"] > 0 for policy in results["policies"])


def test_who_moves_first_learns_to_win_against_a_partner_that_learns_too(tmp_path: Path) -> None:
    """Nim of three matches: whoever begins takes two and leaves the last one."""
    flags = ("--train_for_env_steps=20000", "--gamma=1", "--learning_rate=0.003", "--seed=1")
    with train(tmp_path, "turns", *flags) as training:
        assert training.finish(120) == 0, training.text
    watch = ("--experiment=e", f"--train_dir={tmp_path}", "--no_render", "--max_num_episodes=20", "--device=cpu")
    with TrainingCommand(*watch, "--eval_deterministic=True", program=("-m", "sf_algo.enjoy_appo")) as enjoy:
        assert enjoy.finish(60) == 0, enjoy.text
    # One move each: the first leaves one match, which the second has to take. All other games are longer.
    (lengths,) = [line.split() for line in enjoy.lines if line.strip().startswith("len ")]
    assert lengths[1:] == ["1.000", "0.000", "1.000", "1.000", "1.000"]
