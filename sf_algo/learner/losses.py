"""Losses of proximal policy optimization (Schulman et al. 2017), as sums over the valid samples.

Shape letters: T steps, B trajectories.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from sf_algo.learner.peers import ALONE, Peers, total
from sf_algo.model.distributions import ActionDistribution

MIN_RATIO, MAX_RATIO = 0.05, 20.0
"""Policy ratios beyond these are numerical noise: they are cut, and their gradient is 0."""


_FARTHEST = 100.0
"""Logarithms of ratios beyond this come from forbidden actions."""


@dataclass(frozen=True, kw_only=True)
class Ratios:
    """pi(a) / mu(a) of the policy being trained and the one that acted, [T, B]."""

    log_ratios: Tensor
    """Of the cut ratios."""
    ratios: Tensor
    differences: Tensor
    """log pi(a) - log mu(a), not cut."""

    @staticmethod
    def of(log_probs: Tensor, old_log_probs: Tensor, played: Tensor) -> Ratios:
        """Where not `played` [T, B] bool (the environment ignored the action) the ratio is 1."""
        difference = torch.where(played, log_probs - old_log_probs, 0.0)
        log_ratios = difference.clamp(math.log(MIN_RATIO), math.log(MAX_RATIO))
        return Ratios(log_ratios=log_ratios, ratios=log_ratios.exp(), differences=difference)


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Coefficients and clips; names and meanings are those of the flags."""

    ppo_clip_ratio: float
    ppo_clip_value: float
    value_loss_coeff: float
    exploration_loss: Literal["entropy", "symmetric_kl"]
    exploration_loss_coeff: float
    kl_loss_coeff: float


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Means over the valid samples, already weighted; `total` is their sum and carries the gradient."""

    total: Tensor
    policy: Tensor
    value: Tensor
    exploration: Tensor
    kl: Tensor
    kl_divergence: Tensor
    """Unweighted estimate of KL(mu || pi), without gradient."""
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    """Losses of the user's own, by name, without gradient."""

    def with_extra(self, extra: Mapping[str, Tensor]) -> Losses:
        """The same with further losses, scalars that are weighted already."""
        total = self.total + torch.stack(list(extra.values())).sum() if extra else self.total
        return replace(self, total=total, extra={name: loss.detach() for name, loss in extra.items()})

    def figures(self) -> Tensor:
        """Total, policy, value, exploration, KL loss, divergence and the user's own losses, without gradient."""
        parts = (self.policy, self.value, self.exploration, self.kl, self.kl_divergence)
        return torch.stack([self.total.detach(), *parts, *self.extra.values()])


def masked_mean(x: Tensor, valid: Tensor, count: Tensor | None = None) -> Tensor:
    """Mean of x [T, B] over the samples where valid [T, B] float is 1; 0 where there are none. `count`: of how many
    valid samples, where this is one learner's share of a minibatch: then the sum over the shares is the mean."""
    return (x * valid).sum() / (valid.sum() if count is None else count).clamp(min=1.0)


def standardized(x: Tensor, valid: Tensor, peers: Peers = ALONE) -> Tensor:
    """x [T, B] shifted and scaled to mean 0 and standard deviation 1 over the valid samples of all `peers`."""
    count = total(valid.sum(), peers).clamp(min=1.0)
    centered = x - total((x * valid).sum(), peers) / count
    variance = total((centered.square() * valid).sum(), peers) / (count - 1.0).clamp(min=1.0)
    return centered / variance.sqrt().clamp(min=1e-7)


def policy_loss(
    ratios: Tensor, advantages: Tensor, clip_ratio: float, valid: Tensor, count: Tensor | None = None
) -> Tensor:
    """-mean of min(ratio A, clip(ratio) A), the ratio clipped to [1 / (1 + eps), 1 + eps]: unlike 1 - eps the
    lower bound is the mirror image of the upper one in log space."""
    clipped = ratios.clamp(1.0 / (1.0 + clip_ratio), 1.0 + clip_ratio)
    return -masked_mean(torch.min(ratios * advantages, clipped * advantages), valid, count)


def value_loss(
    values: Tensor, old_values: Tensor, targets: Tensor, clip: float, valid: Tensor, count: Tensor | None = None
) -> Tensor:
    """Mean of the larger squared error: that of the value, or of the value moved by at most `clip`."""
    clipped = old_values + (values - old_values).clamp(-clip, clip)
    return masked_mean(torch.max((values - targets).square(), (clipped - targets).square()), valid, count)


def kl_estimate(ratios: Ratios) -> Tensor:
    """(pi / mu - 1) - log(pi / mu) [T, B]: an unbiased, never negative estimate of KL(mu || pi) from actions
    of mu (Schulman 2020, "Approximating KL divergence", estimator k3). Its gradient is an unbiased estimate
    of the divergence's gradient.

    It draws back the harder the further away a policy is, so it must not end where the ratio of the policy loss is cut.
    Only where it would grow exponentially (ratios above `MAX_RATIO`) it goes on as a straight line."""
    difference = ratios.differences.clamp(-_FARTHEST, _FARTHEST)
    near = difference.clamp(max=math.log(MAX_RATIO))
    return near.exp() - 1.0 - near + (MAX_RATIO - 1.0) * (difference - near)


def exploration_loss(
    distribution: ActionDistribution,
    kind: Literal["entropy", "symmetric_kl"],
    valid: Tensor,
    count: Tensor | None = None,
) -> Tensor:
    """Small where the policy explores: the negative entropy, or the symmetric divergence from uniform."""
    if kind == "entropy":
        return -masked_mean(distribution.entropy(), valid, count)
    return masked_mean(distribution.symmetric_kl_to_uniform(), valid, count)


def ppo_losses(
    *,
    distribution: ActionDistribution,
    ratios: Ratios,
    advantages: Tensor,
    values: Tensor,
    old_values: Tensor,
    targets: Tensor,
    valid: Tensor,
    weights: LossWeights,
    count: Tensor | None = None,
) -> Losses:
    """All parts, [T, B] tensors in; values, old_values and targets in the network's units; valid is float. `count`: as
    for `masked_mean`."""
    policy = policy_loss(ratios.ratios, advantages, weights.ppo_clip_ratio, valid, count)
    value = weights.value_loss_coeff * value_loss(values, old_values, targets, weights.ppo_clip_value, valid, count)
    zero = torch.zeros((), dtype=policy.dtype, device=policy.device)
    exploration = zero
    if weights.exploration_loss_coeff:
        explored = exploration_loss(distribution, weights.exploration_loss, valid, count)
        exploration = weights.exploration_loss_coeff * explored
    if weights.kl_loss_coeff:
        divergence = masked_mean(kl_estimate(ratios), valid, count)
        kl = weights.kl_loss_coeff * divergence
    else:
        with torch.no_grad():  # a figure for people and schedules: the cut ratios, which are there already, will do
            divergence, kl = masked_mean(ratios.ratios - 1.0 - ratios.log_ratios, valid, count), zero
    return Losses(
        total=policy + value + exploration + kl,
        policy=policy.detach(),
        value=value.detach(),
        exploration=exploration.detach(),
        kl=kl.detach(),
        kl_divergence=divergence.detach(),
    )
