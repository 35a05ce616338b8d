"""Asynchronous PPO's learner: epochs of minibatches over whole trajectories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from sf_algo.learner.batch import TrajectoryBatch
from sf_algo.learner.stats import TrainStats
from sf_algo.model.actor_critic import ActorCritic

if TYPE_CHECKING:
    from sf_algo.config import LearnerConfig


class Learner:
    """Trains one policy. Not thread-safe: one thread calls `train`; others may read `policy_version`."""

    policy_version: int
    """Optimizer steps done since the run began: the version that acting stamps on every step."""
    model: ActorCritic
    """The network being trained, on `device`. Copy its `state_dict()` between calls of `train` to publish."""

    def __init__(
        self,
        policy_id: int,
        rl_cfg: LearnerConfig,
        model: ActorCritic,
        *,
        device: torch.device,
        max_policy_lag: int,
        seed: int,
        train_for_env_steps: int | None = None,
        bf16: bool = False,
    ) -> None:
        """`train_for_env_steps` is where `lr_schedule=linear_decay` reaches zero (required by it alone)."""
        raise NotImplementedError

    def train(self, batch: TrajectoryBatch, *, env_steps: int = 0) -> TrainStats:
        """One or more epochs over the batch (T * B = batch_size * num_batches_per_iteration samples).
        `env_steps`: environment frames collected so far in the whole run (for schedules)."""
        raise NotImplementedError

    def set_config(self, rl_cfg: LearnerConfig) -> None:
        """New hyperparameters between two calls of `train` (population-based training). The learning rate is
        taken over only where it differs from the previous config's."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Everything training depends on: weights, normalizers, optimizer, counters, schedule, generator.
        Only tensors, numbers, strings and containers of them: loadable with `weights_only=True`."""
        raise NotImplementedError

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises `CheckpointError` naming the tensors that do not fit the network built from the flags."""
        raise NotImplementedError
