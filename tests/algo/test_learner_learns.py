"""Actor and learner together really learn: a context, a number, and a memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sf_algo.config import ModelConfig
from sf_algo.envs.spec import ActionSpec, Box, Discrete, EnvSpec, ObsSpec
from sf_algo.learner.batch import TrajectoryBatch
from sf_algo.model.actor import Actor
from tests.algo.model_cases import FLOAT, learner_config, make_learner, make_model, model_config

ENVS, ROLLOUT = 32, 16
Array = NDArray[np.float32]


class Recall:
    """The first observation shows which action will be asked for in the last of `length` steps."""

    length = 4
    spec = EnvSpec(obs={"obs": ObsSpec(shape=(3,), dtype=FLOAT)}, actions=ActionSpec((Discrete(2),)))

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.cue = rng.integers(2, size=ENVS)
        self.age = rng.integers(self.length, size=ENVS)

    def observe(self) -> Array:
        out = np.zeros((ENVS, 3), np.float32)
        out[:, 0] = self.age == self.length - 1
        out[np.arange(ENVS), 1 + self.cue] = self.age == 0
        return out

    def step(self, actions: Array) -> tuple[Array, NDArray[np.bool_]]:
        done = self.age == self.length - 1
        rewards = (done & (actions[:, 0] == self.cue)).astype(np.float32)
        self.age = np.where(done, 0, self.age + 1)
        self.cue = np.where(done, self.rng.integers(2, size=ENVS), self.cue)
        return rewards, done


class Reach(Recall):
    """One step: act as the observed number says, in the environment's units."""

    spec = EnvSpec(obs={"obs": ObsSpec(shape=(3,), dtype=FLOAT)}, actions=ActionSpec((Box((-10.0,), (30.0,)),)))

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__(rng)
        self.goal = rng.uniform(-0.8, 0.8, ENVS)

    def observe(self) -> Array:
        return np.stack([self.goal, np.ones(ENVS), np.zeros(ENVS)], 1).astype(np.float32)

    def step(self, actions: Array) -> tuple[Array, NDArray[np.bool_]]:
        error = np.abs((actions[:, 0] - 10.0) / 20.0 - self.goal)
        self.goal = self.rng.uniform(-0.8, 0.8, ENVS)
        return (1.0 - error).astype(np.float32), np.ones(ENVS, bool)


def train(env: Recall, cfg: ModelConfig, iterations: int, **changes: Any) -> float:
    """Mean reward of finished episodes over the last ten iterations."""
    model = make_model(env.spec, cfg)
    settings: dict[str, Any] = {
        "rollout": ROLLOUT,
        "recurrence": ROLLOUT if cfg.use_rnn else 1,
        "batch_size": ROLLOUT * ENVS,
        "learning_rate": 5e-3,
        "gamma": 0.9,
        "ppo_epochs": 3,
    }
    learner = make_learner(env.spec, learner_config(**{**settings, **changes}), model)
    actor = Actor(model, seed=0)
    batch = TrajectoryBatch.allocate(
        env.spec, rollout=ROLLOUT, num_trajectories=ENVS, rnn_state_size=model.rnn_state_size
    )
    batch.valid.fill_(True)
    obs = batch.obs["obs"].numpy()
    obs[ROLLOUT] = env.observe()
    scores: list[float] = []
    for iteration in range(iterations):
        obs[0] = obs[ROLLOUT]
        batch.rnn_states[0] = batch.rnn_states[ROLLOUT]
        for t in range(ROLLOUT):
            acted = actor.step({"obs": batch.obs["obs"][t]}, batch.rnn_states[t])
            batch.actions[t], batch.log_probs[t], batch.values[t] = acted[:3]
            rewards, done = env.step(acted.actions.numpy())
            batch.rewards[t] = torch.from_numpy(rewards)
            batch.terminated[t] = batch.reset_after[t] = torch.from_numpy(done)
            keep = torch.from_numpy(~done).unsqueeze(1)
            batch.rnn_states[t + 1] = acted.rnn_states * keep
            obs[t + 1] = env.observe()
            if iteration >= iterations - 10:
                scores += rewards[done].tolist()
        batch.policy_version.fill_(learner.policy_version)
        learner.train(batch)
    return float(np.mean(scores))


@pytest.mark.parametrize(("use_rnn", "rnn_type"), [(True, "gru"), (True, "lstm"), (False, "gru")])
def test_only_a_memory_solves_recall(use_rnn: bool, rnn_type: Any) -> None:
    cfg = model_config(use_rnn=use_rnn, rnn_type=rnn_type, hidden_size=16)
    score = train(Recall(np.random.default_rng(0)), cfg, iterations=60)
    if use_rnn:
        assert score > 0.95
    else:
        assert 0.4 < score < 0.6


@pytest.mark.parametrize("with_vtrace", [True, False])
def test_a_number_is_reached(with_vtrace: bool) -> None:
    cfg = model_config(hidden_size=16, adaptive_stddev=False, initial_stddev=0.5)
    score = train(Reach(np.random.default_rng(0)), cfg, iterations=60, with_vtrace=with_vtrace)
    assert score > 0.8  # acting at random scores 0.47; what is left is the noise of exploration
