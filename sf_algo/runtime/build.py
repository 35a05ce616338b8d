"""The composition root: builds the pieces of a run from its configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from sf_algo.buffers.layout import TrajectoryLayout, make_layout
from sf_algo.config import Config
from sf_algo.envs.spec import EnvSpec
from sf_algo.errors import ConfigError
from sf_algo.inference.policy import PolicyInference
from sf_algo.learner.batch import TrajectoryBatch
from sf_algo.learner.learner import Learner
from sf_algo.model.actor_critic import ActorCritic, make_actor_critic
from sf_algo.rollout.episodes import mix_seed
from sf_algo.runtime.batcher import Batcher
from sf_algo.runtime.plan import Mode, SamplerPlan
from sf_algo.runtime.team import PolicyTeam

log = logging.getLogger(__name__)

_MODEL_SEED, _ACTOR_SEED, _LEARNER_SEED = 1, 2, 3


def choose_device(name: str) -> torch.device:
    """The device for networks. Raises ConfigError where a GPU was asked for and there is none."""
    if name == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if name == "gpu":
        raise ConfigError("--device=gpu: torch finds no CUDA device; use --device=cpu or --device=auto")
    return torch.device("cpu")


def build_model(config: Config, spec: EnvSpec, device: torch.device, *, seed: int) -> ActorCritic:
    """The network of one policy; the same seed gives the same weights."""
    rl = config.rl
    model = make_actor_critic(
        config.model,
        spec,
        obs_subtract_mean=rl.obs_subtract_mean,
        obs_scale=rl.obs_scale,
        normalize_input=rl.normalize_input,
        normalize_returns=rl.normalize_returns,
        seed=seed,
    )
    return model.to(device)


def build_learner(
    config: Config, model: ActorCritic, device: torch.device, *, policy_id: int, seed: int
) -> Learner:
    """The learner of one policy; it trains `model`."""
    return Learner(
        policy_id,
        config.rl,
        model,
        device=device,
        max_policy_lag=config.sampling.max_policy_lag,
        seed=seed,
        train_for_env_steps=config.run.env_steps_limit,
    )


@dataclass(frozen=True, kw_only=True)
class TeamBuilder:
    """Builds the teams of a run; the same seed builds the same ones."""

    config: Config
    spec: EnvSpec
    plan: SamplerPlan
    device: torch.device
    seed: int

    def build(self, policy_id: int) -> PolicyTeam:
        config, plan = self.config, self.plan
        model_seed = mix_seed(self.seed, _MODEL_SEED, policy_id)
        model = build_model(config, self.spec, self.device, seed=model_seed)
        # One thread that acts and learns in turn needs one set of weights only.
        apart = plan.mode is Mode.ASYNC
        acting = build_model(config, self.spec, self.device, seed=model_seed) if apart else model
        learner_seed = mix_seed(self.seed, _LEARNER_SEED, policy_id)
        learner = build_learner(config, model, self.device, policy_id=policy_id, seed=learner_seed)
        inference = PolicyInference(
            acting,
            self.spec,
            device=self.device,
            max_agents=plan.total_trajectories,
            seed=mix_seed(self.seed, _ACTOR_SEED, policy_id),
        )
        inference.take_weights(learner.model, learner.policy_version)
        batcher = Batcher(
            policy_id=policy_id,
            trajectories=plan.batch_trajectories,
            num_buffers=plan.num_batch_buffers,
            allocate=self._allocate(model.rnn_state_size),
        )
        return PolicyTeam(policy_id=policy_id, learner=learner, inference=inference, batcher=batcher)

    def _allocate(self, rnn_state_size: int) -> Callable[[], TrajectoryBatch]:
        return lambda: TrajectoryBatch.allocate(
            self.spec,
            rollout=self.plan.rollout,
            num_trajectories=self.plan.batch_trajectories,
            rnn_state_size=rnn_state_size,
            pin_memory=self.device.type == "cuda",
        )


def layout_of(spec: EnvSpec, plan: SamplerPlan, model: ActorCritic) -> TrajectoryLayout:
    """What the slots of this run hold."""
    return make_layout(
        obs=spec.obs, actions=spec.actions, rollout=plan.rollout, rnn_state_width=model.rnn_state_size
    )
