"""Returns and advantages: generalized advantage estimation and V-trace, on the layout of trajectories.

Both are a linear recurrence from the last row to the first, so both share `reverse_scan`.

The next row's value bootstraps a step, with three exceptions. A terminated episode has no future: nothing is
bootstrapped. Behind a truncated step stands a filler row that holds the final observation: its value is
bootstrapped, but nothing of the rows behind it (they belong to another episode). A row that ends without
either (the filler row itself, an environment that broke) says nothing about the future: its temporal
difference counts as 0, so that the row before it bootstraps from its value.

Shape letters: T steps, B trajectories.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Transitions:
    """How rewards and values follow one another, as float32 factors [T, B]."""

    bootstraps: Tensor
    """1 where the next row's value bootstraps this step."""
    continues: Tensor
    """1 where the next row goes on with the same episode."""
    counts: Tensor
    """0 where the episode was left without an end: the step's temporal difference is unknown."""

    @staticmethod
    def of(*, terminated: Tensor, truncated: Tensor, reset_after: Tensor, value_bootstrap: bool) -> Transitions:
        """From the flags [T, B] bool of a trajectory. Without `value_bootstrap` a time limit counts as the
        end of the world: 0 is bootstrapped (Pardo et al. 2018, "Time limits in reinforcement learning",
        explain why that is wrong)."""
        ended = terminated | truncated
        hopeless = terminated if value_bootstrap else ended
        abandoned = reset_after & ~ended
        return Transitions(
            bootstraps=(~hopeless).float(),
            continues=(~(ended | reset_after)).float(),
            counts=(~abandoned).float(),
        )

    def columns(self, which: Tensor) -> Transitions:
        """Some trajectories of all: `which` [b] int64."""
        return Transitions(
            bootstraps=self.bootstraps[:, which],
            continues=self.continues[:, which],
            counts=self.counts[:, which],
        )


@dataclass(frozen=True, kw_only=True)
class Returns:
    """[T, B] each, in units of reward."""

    advantages: Tensor
    targets: Tensor
    """What the value function should have said."""


def generalized_advantages(
    *,
    rewards: Tensor,
    values: Tensor,
    bootstrap_values: Tensor,
    transitions: Transitions,
    gamma: float,
    gae_lambda: float,
) -> Returns:
    """Schulman et al. 2016, "High-dimensional continuous control using generalized advantage estimation", eq.
    16: A_t = delta_t + gamma lambda A_{t+1} with delta_t = r_t + gamma V_{t+1} - V_t.

    rewards and values [T, B]; bootstrap_values [B] is V of row T.
    """
    next_values = torch.cat([values[1:], bootstrap_values.unsqueeze(0)])
    deltas = rewards + gamma * transitions.bootstraps * next_values - values
    advantages = reverse_scan(deltas * transitions.counts, gamma * gae_lambda * transitions.continues)
    return Returns(advantages=advantages, targets=advantages + values)


def vtrace(
    *,
    rewards: Tensor,
    values: Tensor,
    bootstrap_values: Tensor,
    ratios: Tensor,
    transitions: Transitions,
    gamma: float,
    rho_clip: float,
    c_clip: float,
    trace_lambda: float = 1.0,
) -> Returns:
    """Espeholt et al. 2018, "IMPALA", section 4.1 and remark 2. Targets are v_t, advantages
    rho_t (r_t + gamma (V_{t+1} + lambda (v_{t+1} - V_{t+1})) - V_t), which is the paper's with lambda = 1 and
    generalized advantage estimation where the policy that acted is the current one.

    v_t - V_t = rho_t delta_t + gamma lambda c_t (v_{t+1} - V_{t+1}), where rho_t = min(rho_clip, ratio_t) and
    c_t = min(c_clip, ratio_t); behind the last row v and V are both `bootstrap_values` [B]. ratios [T, B] are
    pi(a_t) / mu(a_t) of the current policy and the one that acted.
    """
    rhos = ratios.clamp(max=rho_clip)
    decays = gamma * trace_lambda * transitions.continues
    traces = ratios.clamp(max=c_clip)
    next_values = torch.cat([values[1:], bootstrap_values.unsqueeze(0)])
    deltas = transitions.counts * rhos * (rewards + gamma * transitions.bootstraps * next_values - values)
    corrections = reverse_scan(deltas, decays * traces)
    next_corrections = torch.cat([corrections[1:], torch.zeros_like(corrections[:1])])
    advantages = deltas + decays * rhos * next_corrections
    return Returns(advantages=advantages, targets=values + corrections)


def reverse_scan(addends: Tensor, factors: Tensor) -> Tensor:
    """x_t = addends_t + factors_t x_{t+1} from the last row to the first, x_T = 0; all [T, B]."""
    out = torch.empty_like(addends)
    following = torch.zeros_like(addends[0])
    for addend, factor, row in zip(
        reversed(addends.unbind()), reversed(factors.unbind()), reversed(out.unbind()), strict=True
    ):
        following = torch.addcmul(addend, factor, following, out=row)
    return out
