"""From a batch to what the losses read: which samples count, scaled rewards, minibatches of trajectories.

Shape letters: T steps, B trajectories, b trajectories of a minibatch, S numbers of recurrent state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sf_algo.learner.batch import TrajectoryBatch
from sf_algo.learner.returns import Returns, Transitions


@dataclass(frozen=True, kw_only=True)
class Validity:
    """Which samples of a batch may be trained on."""

    valid: Tensor
    """[T, B] bool: played by this policy, an active agent's, and fresh enough."""
    kept: Tensor
    """[b] int64: trajectories with at least one valid sample; the others are dropped whole."""
    lags: tuple[float, float, float]
    """Smallest, mean and largest policy lag of this policy's samples, in versions."""


def validity(batch: TrajectoryBatch, *, policy_id: int, policy_version: int, max_policy_lag: int) -> Validity:
    """Judges a batch in host memory. Lag is the number of versions that the policy is ahead of the one that
    acted; a sample is too old where that is `max_policy_lag` or more."""
    own = batch.valid & (batch.policy_id == policy_id)
    lag = policy_version - batch.policy_version
    valid = own & (lag < max_policy_lag)
    lags = lag[own]
    if len(lags):
        spread = (float(lags.min()), float(lags.float().mean()), float(lags.max()))
    else:
        spread = (0.0, 0.0, 0.0)
    return Validity(valid=valid, kept=valid.any(0).nonzero().squeeze(1), lags=spread)


@dataclass(frozen=True, kw_only=True)
class Samples:
    """A batch or minibatch on the learner's device; columns are trajectories."""

    obs: Mapping[str, Tensor]
    """name -> [T+1, B, ...]."""
    rnn_states: Tensor
    """[T+1, B, S]."""
    actions: Tensor
    log_probs: Tensor
    values: Tensor
    """[T, B], of the policy that acted, in units of reward."""
    old_values: Tensor
    """[T, B], the same in the network's units."""
    rewards: Tensor
    """[T, B], scaled and clipped."""
    played: Tensor
    """[T, B] bool: the environment carried out the action, whoever chose it."""
    valid: Tensor
    """[T, B] float: 1 where the sample enters the loss."""
    transitions: Transitions
    reset_after: Tensor
    """[T, B] bool, in host memory: what cuts sequences decides there."""
    returns: Returns | None = None
    """Computed once for the whole batch (GAE), or None (V-trace: for every minibatch anew)."""

    @property
    def rollout(self) -> int:
        return int(self.rewards.shape[0])

    @property
    def num_trajectories(self) -> int:
        return int(self.rewards.shape[1])

    def columns(self, which: Tensor) -> Samples:
        """A minibatch: trajectories `which` [b] int64 (host memory)."""
        here = which.to(self.rewards.device, non_blocking=True)
        picked = {
            name: getattr(self, name).index_select(1, here)
            for name in (
                "rnn_states",
                "actions",
                "log_probs",
                "values",
                "old_values",
                "rewards",
                "played",
                "valid",
            )
        }
        returns = self.returns
        if returns is not None:
            returns = Returns(advantages=returns.advantages[:, here], targets=returns.targets[:, here])
        return replace(
            self,
            **picked,
            obs={name: x.index_select(1, here) for name, x in self.obs.items()},
            transitions=self.transitions.columns(here),
            reset_after=self.reset_after.index_select(1, which),
            returns=returns,
        )


def minibatches(kept: Tensor, size: int, generator: torch.Generator, *, total: int) -> list[Tensor | None]:
    """Cuts the trajectories `kept` [b] of `total` into minibatches of about `size`, at most that many, as
    equal as possible. Shuffles where there is more than one. None stands for the whole batch in its order."""
    count = -(-len(kept) // size)
    if count <= 1:
        return [None if len(kept) == total else kept] if count else []
    shuffled = kept[torch.randperm(len(kept), generator=generator)]
    return list(torch.tensor_split(shuffled, count))


def scaled_rewards(rewards: Tensor, scale: float, clip: float) -> Tensor:
    """rewards * scale, clipped to [-clip, clip]."""
    return (rewards * scale).clamp_(-clip, clip)
