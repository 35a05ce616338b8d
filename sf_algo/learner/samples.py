"""From a batch to the input of the losses: validity and lag of samples, scaled rewards, minibatches.

Shape letters: T steps, B trajectories, b trajectories of a minibatch, S numbers of recurrent state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sf_algo.learner.batch import TrajectoryBatch
from sf_algo.learner.returns import Returns, Transitions
from sf_algo.model.uploading import uploaded


@dataclass(frozen=True, kw_only=True)
class Validity:
    """Which samples of a batch may be trained on."""

    valid: Tensor
    """[T, B] bool: this policy acted, the agent was active, and the lag is below the limit."""
    kept: Tensor
    """[b] int64: trajectories with at least one valid sample; the others are dropped whole."""
    lags: tuple[float, float, float]
    """Smallest, mean and largest policy lag of this policy's samples, in versions."""
    num_damaged: int
    """Trajectories of this policy that hold a number that is not finite; none of their samples is valid."""

    def rows(self) -> Tensor | None:
        """Places of the valid samples among all T * B, int64 in host memory; None where all are valid. A device that
        was given a mask instead would have to tell the host how many there are."""
        return None if self.valid.all() else self.valid.flatten().nonzero().squeeze(1)


def validity(
    batch: TrajectoryBatch, *, policy_id: int, policy_version: int, max_policy_lag: int, born_version: int = 0
) -> Validity:
    """Which samples of a batch in host memory policy `policy_id` may train on, and their lag.

    Policy lag = version of the learner (`policy_version`) minus version of the policy that acted, both counted in
    optimizer steps. A sample with a lag of `max_policy_lag` or more is not valid, nor is one from before
    `born_version` or of a version that the policy has not come to (after a resume from an older checkpoint than the
    sampler's).
    """
    sound = _sound_trajectories(batch)
    own = batch.valid & (batch.policy_id == policy_id)
    damaged = int((own.any(0) & ~sound).sum())
    lag = policy_version - batch.policy_version
    valid = own & (lag >= 0) & (lag < max_policy_lag) & (batch.policy_version >= born_version) & sound
    lags = lag[own]
    if len(lags):
        spread = (float(lags.min()), float(lags.float().mean()), float(lags.max()))
    else:
        spread = (0.0, 0.0, 0.0)
    return Validity(valid=valid, kept=valid.any(0).nonzero().squeeze(1), lags=spread, num_damaged=damaged)


def _sound_trajectories(batch: TrajectoryBatch) -> Tensor:
    """[B] bool: everything that the losses are computed from is finite. One number that is not would reach every
    weight. Environments are looked at where they are stepped; a network can overflow, too."""
    parts = [batch.rewards, batch.values, batch.log_probs, batch.actions]
    parts += [batch.rnn_states[:1], batch.rnn_states[-1:]]
    parts += [x for x in (*batch.obs.values(), *batch.step_fields.values()) if x.is_floating_point()]
    sound = torch.ones(batch.num_trajectories, dtype=torch.bool)
    for part in parts:
        if not math.isfinite(float(part.sum())):  # cheap, and nearly always finite
            sound &= torch.isfinite(part).transpose(0, 1).flatten(1).all(1)
    return sound


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
    """[T, B] bool, in host memory, where sequences are cut."""
    step_fields: Mapping[str, Tensor] = field(default_factory=dict)
    """name -> [T, B, ...]: numbers of the user's about each step (--step_fields)."""
    returns: Returns | None = None
    """GAE: computed once for the whole batch. None for V-trace, which is computed for every minibatch."""

    @property
    def rollout(self) -> int:
        return int(self.rewards.shape[0])

    @property
    def num_trajectories(self) -> int:
        return int(self.rewards.shape[1])

    def columns(self, which: Tensor) -> Samples:
        """A minibatch: trajectories `which` [b] int64 (host memory)."""
        here = uploaded(which, self.rewards.device)
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
            step_fields={name: x.index_select(1, here) for name, x in self.step_fields.items()},
            transitions=self.transitions.columns(here),
            reset_after=self.reset_after.index_select(1, which),
            returns=returns,
        )


def minibatches(
    kept: Tensor, size: int, generator: torch.Generator, *, total: int, nearest: bool = False
) -> list[Tensor | None]:
    """Splits the trajectories `kept` [b] int64 into minibatches of at most `size`, as equal as possible. `nearest`: as
    near to `size` as possible; they may be larger, then.

    They are shuffled by `generator` if there is more than one minibatch. `total`: trajectories in the batch. Returns
    indices int64 per minibatch; None stands for the whole batch in its order.
    """
    count = -(-len(kept) // size)
    if nearest and count:
        count = max(1, (len(kept) + size // 2) // size)
    if count <= 1:
        return [None if len(kept) == total else kept] if count else []
    shuffled = kept[torch.randperm(len(kept), generator=generator)]
    return list(torch.tensor_split(shuffled, count))


def scaled_rewards(rewards: Tensor, scale: float, clip: float) -> Tensor:
    """rewards * scale, clipped to [-clip, clip]."""
    return (rewards * scale).clamp_(-clip, clip)
