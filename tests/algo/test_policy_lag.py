"""Where sampling and learning take turns, all that a policy learns from was done with the weights that the update
begins with, however many policies there are."""

from __future__ import annotations

import json
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from sf_algo.config.resolve import configure
from sf_algo.learner.batch import TrajectoryBatch
from sf_algo.learner.learner import Learner
from sf_algo.training.launch import run_training
from tests.algo.training_command import TrainingCommand

ROOT = Path(__file__).parent.parent.parent
MODES = {
    "serial": ("--serial_mode=True", "--async_rl=False", "--num_envs_per_worker=8"),
    "workers": ("--num_workers=2", "--async_rl=False", "--num_envs_per_worker=4", "--worker_num_splits=2"),
}
FRAMES = 2000
SMALL = (
    "--use_rnn=False",
    "--hidden_size=16",
    "--rollout=8",
    "--batch_size=128",
    "--num_batches_per_iteration=2",
    f"--train_for_env_steps={FRAMES}",
    "--decorrelate_experience_max_seconds=0",
    "--seed=1",
    "--device=cpu",
)
POPULATION = ("--with_pbt=True", "--pbt_start_mutation=300", "--pbt_period_env_steps=300", "--pbt_mutation_rate=1")
MATCHES = "--env=tests.algo.match_envs:make_highest_wins"
CASES = {
    "one policy": ("--env=CartPole-v1",),
    "two": ("--env=CartPole-v1", "--num_policies=2"),
    "four": ("--env=CartPole-v1", "--num_policies=4"),
    "matches": (MATCHES, "--num_policies=4"),
    "matches of one policy each": (MATCHES, "--num_policies=2", "--pbt_mix_policies_in_one_env=False"),
    "earlier selves": (MATCHES, "--self_play=past", "--self_play_period_env_steps=300"),
    "earlier selves of two": (MATCHES, "--num_policies=2", "--self_play=mix", "--self_play_period_env_steps=300"),
    "agents with episodes of their own": ("--env=tests.algo.test_env_agents:make_drones", "--num_policies=2"),
    "roles": ("--env=tests.algo.test_env_agents:make_hunt", "--num_policies=2"),
    "population": ("--env=CartPole-v1", "--num_policies=4", "--stats_avg=3", *POPULATION),
    "population of matches": (MATCHES, "--num_policies=2", "--stats_avg=3", "--self_play=mix", *POPULATION),
}


@dataclass(frozen=True, kw_only=True)
class Iteration:
    """What a learner was given, and what it made of it."""

    policy: int
    version: int
    trajectories: int
    lags: tuple[int, ...]
    """That there are among the policy's samples."""
    samples: int
    """Of the policy."""
    learned_from: int


@pytest.fixture
def iterations(monkeypatch: pytest.MonkeyPatch) -> list[Iteration]:
    """All of this test, in their order."""
    torch.set_num_threads(1)
    found: list[Iteration] = []
    train = Learner.train

    def noting(self: Learner, batch: TrajectoryBatch, **how: Any) -> Any:
        own = batch.valid & (batch.policy_id == self._policy_id)
        lags = (self.policy_version - batch.policy_version)[own]
        version, samples = self.policy_version, int(own.sum())
        stats = train(self, batch, **how)
        found.append(
            Iteration(
                policy=self._policy_id,
                version=version,
                trajectories=batch.num_trajectories,
                lags=tuple(lags.unique().tolist()),
                samples=samples,
                learned_from=stats.num_valid_samples,
            )
        )
        return stats

    monkeypatch.setattr(Learner, "train", noting)
    return found


def run(folder: Path, *flags: str) -> None:
    assert run_training(configure([f"--train_dir={folder}", "--experiment=e", *SMALL, *flags]).config) == 0


FAST = {("two", "serial"), ("four", "serial"), ("population of matches", "serial"), ("two", "workers")}


@pytest.mark.parametrize(
    ("case", "mode"),
    [
        pytest.param(case, mode, marks=() if (case, mode) in FAST else pytest.mark.slow)
        for case in CASES
        for mode in MODES
    ],
)
def test_there_is_none_in_turns(case: str, mode: str, iterations: list[Iteration], tmp_path: Path) -> None:
    flags = (*CASES[case], *MODES[mode])
    run(tmp_path, *flags)
    first = len(iterations)
    run(tmp_path, *flags, f"--train_for_env_steps={FRAMES * 3 // 2}")
    policies = {iteration.policy for iteration in iterations}
    assert len(policies) == int(next((f.split("=")[1] for f in flags if f.startswith("--num_policies")), 1))
    assert min(iteration.version for iteration in iterations[first:]) > 0  # it went on
    for iteration in iterations:
        assert iteration.lags == (0,), iteration
        assert iteration.learned_from == iteration.samples, iteration
        assert iteration.trajectories >= 32  # what the flags ask for: 2 x 128 samples


def results(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "e" / "results.json").read_text())
    return document


@pytest.mark.parametrize("mode", ["serial", pytest.param("workers", marks=pytest.mark.slow)])
def test_nobody_waits_for_a_policy_that_nobody_follows(mode: str, tmp_path: Path) -> None:
    """Two environments of two agents whose episodes never end: at most four of six policies ever act."""
    flags = ("--env=tests.algo.match_envs:make_first_is_endless", "--num_policies=6", *MODES[mode])
    few = ("--num_workers=1", "--num_envs_per_worker=2", "--worker_num_splits=1")
    run(tmp_path, *flags, *few)
    frames = [policy["env_steps"] for policy in results(tmp_path)["policies"]]
    assert min(frames) == 0
    assert sum(frames) >= FRAMES


def test_a_killed_worker_holds_nobody_up_for_long(tmp_path: Path) -> None:
    words = (*SMALL, MATCHES, "--num_policies=2", *MODES["workers"], "--train_for_env_steps=1000000000")
    words += (f"--train_dir={tmp_path}", "--experiment=e", "--status_interval=0.5")
    with TrainingCommand(*words, env={"PYTHONPATH": str(ROOT)}) as training:
        training.wait_for(r"lag ")
        os.kill(training.pids("sf_worker")[0], signal.SIGKILL)
        training.wait_for("it is started again")
        training.wait_for(r"fps [1-9]")
        training.process.terminate()
        assert training.finish() == 128 + signal.SIGTERM
        training.wait_until_nothing_is_left()
    assert set(re.findall(r"lag (\S+) \(max (\S+)\)", training.text)) == {("0.0", "0")}
