"""Small environments' specs and random trajectories for tests of the model and the learner."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sf_algo.config import LearnerConfig, ModelConfig
from sf_algo.envs.dmlab.instructions import INSTRUCTIONS, INSTRUCTIONS_SPEC, VOCABULARY
from sf_algo.envs.spec import ACTION_MASK, ActionSpec, Box, Discrete, EnvSpec, ObsSpec
from sf_algo.learner.batch import TrajectoryBatch
from sf_algo.learner.learner import Learner
from sf_algo.model.actor import Actor
from sf_algo.model.actor_critic import ActorCritic, make_actor_critic

FLOAT, BYTE, INT8 = np.dtype(np.float32), np.dtype(np.uint8), np.dtype(np.int8)
VECTOR = {"obs": ObsSpec(shape=(4,), dtype=FLOAT)}
IMAGE = {"obs": ObsSpec(shape=(3, 40, 44), dtype=BYTE)}
WORDS = {**IMAGE, INSTRUCTIONS: INSTRUCTIONS_SPEC}
DICTIONARY = {**IMAGE, "measurements": ObsSpec(shape=(5,), dtype=FLOAT)}

DISCRETE = ActionSpec((Discrete(3),))
CONTINUOUS = ActionSpec((Box((-2.0, -math.inf), (2.0, math.inf)),))
MIXED = ActionSpec((Discrete(3), Box((-1.0,), (1.0,)), Discrete(2)))

T, B = 6, 8
CPU = torch.device("cpu")


def env_spec(obs: dict[str, ObsSpec] = VECTOR, actions: ActionSpec = DISCRETE, mask: bool = False) -> EnvSpec:
    if mask:
        obs = {**obs, ACTION_MASK: ObsSpec(shape=(actions.num_choices,), dtype=INT8)}
    return EnvSpec(obs=obs, actions=actions)


def model_config(**changes: Any) -> ModelConfig:
    return replace(ModelConfig(hidden_size=16, use_rnn=False), **changes)


def learner_config(**changes: Any) -> LearnerConfig:
    return replace(LearnerConfig(rollout=T, recurrence=T, batch_size=T * B, learning_rate=1e-3), **changes)


def make_model(spec: EnvSpec, cfg: ModelConfig | None = None, **changes: Any) -> ActorCritic:
    return make_actor_critic(cfg or model_config(), spec, **{"obs_scale": 1.0, "seed": 0, **changes})


def make_learner(spec: EnvSpec, cfg: LearnerConfig, model: ActorCritic, **changes: Any) -> Learner:
    return Learner(0, cfg, model, **{"device": CPU, "max_policy_lag": 100, "seed": 0, **changes})


def random_obs(spec: EnvSpec, *leading: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    obs = {}
    for name, one in spec.obs.items():
        shape = (*leading, *one.shape)
        if name == ACTION_MASK:
            mask = torch.rand(shape, generator=generator) < 0.7
            mask[..., 0] = mask[..., -1] = True
            obs[name] = mask.to(torch.int8)
        elif name == INSTRUCTIONS:
            words = torch.randint(1, VOCABULARY, shape, generator=generator)
            lengths = torch.randint(0, shape[-1] + 1, (*leading, 1), generator=generator)
            obs[name] = (words * (torch.arange(shape[-1]) < lengths)).to(torch.int16)
        elif one.dtype == BYTE:
            obs[name] = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        else:
            obs[name] = torch.randn(shape, generator=generator)
    return obs


def random_batch(spec: EnvSpec, model: ActorCritic, *, columns: int = B, seed: int = 0) -> TrajectoryBatch:
    """Trajectories acted out by `model` on random observations, with terminations, one truncation with its
    filler row, and an inactive agent."""
    batch = TrajectoryBatch.allocate(spec, rollout=T, num_trajectories=columns, rnn_state_size=model.rnn_state_size)
    generator = torch.Generator().manual_seed(seed)
    for name, x in random_obs(spec, T + 1, columns, seed=seed).items():
        batch.obs[name].copy_(x)
    batch.rewards.normal_(generator=generator)
    batch.valid.fill_(True)
    batch.terminated.bernoulli_(0.2, generator=generator)
    batch.terminated[2:4, 0] = False
    batch.truncated[2, 0] = True
    batch.valid[3, 0] = False
    batch.valid[1, columns - 1] = False
    batch.reset_after.copy_(batch.terminated)
    batch.reset_after[3, 0] = True
    actor = Actor(model, seed=seed)
    for t in range(T):
        acted = actor.step({name: x[t] for name, x in batch.obs.items()}, batch.rnn_states[t])
        batch.actions[t], batch.log_probs[t], batch.values[t] = acted.actions, acted.log_probs, acted.values
        keep = (~batch.reset_after[t]).float().unsqueeze(1)
        batch.rnn_states[t + 1] = acted.rnn_states * keep
    return batch


def weights_of(learner: Learner) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in learner.model.state_dict().items()}


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
