"""Returns and advantages: generalized advantage estimation and V-trace, on the layout of trajectories.

Both are a linear recurrence from the last row to the first, so both share `reverse_scan`.

The next row's value bootstraps a step, with three exceptions. A terminated episode has no future: nothing is
bootstrapped. Behind a truncated step stands a filler row that holds the final observation: its value is
bootstrapped, but nothing of the rows behind it (they belong to another episode). A row that ends without
either (the filler row itself, an environment that broke) says nothing about the future: its temporal
difference counts as 0, so that the row before it bootstraps from its value.

While an agent is out of the game (dead until it respawns, say) its rows are skipped: its last action before is
followed by its first action after, as if the rows between were not there. Neither their rewards nor their values,
on which nothing is ever trained, reach the rows around them.

Shape letters: T steps, B trajectories.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sf_algo.model.uploading import uploaded


@dataclass(frozen=True, kw_only=True)
class Transitions:
    """How rewards and values follow one another, as float32 factors [T, B]."""

    bootstraps: Tensor
    """1 where the next row's value bootstraps this step."""
    continues: Tensor
    """1 where the next row goes on with the same episode."""
    counts: Tensor
    """0 where the episode was left without an end: the step's temporal difference is unknown."""

    skips: Tensor | None = None
    """1 where the agent was out of the game; None where nobody ever was."""

    @staticmethod
    def of(
        *, terminated: Tensor, truncated: Tensor, reset_after: Tensor, played: Tensor, value_bootstrap: bool
    ) -> Transitions:
        """From the flags [T, B] bool of a trajectory; `played` is its `valid`.

        Without `value_bootstrap` a time limit counts as the end of the world: 0 is bootstrapped (Pardo et al. 2018,
        "Time limits in reinforcement learning", explain why that is wrong)."""
        ended = terminated | truncated
        hopeless = terminated if value_bootstrap else ended
        abandoned = reset_after & ~ended
        skips = ~(played | abandoned)
        skips[1:] &= ~truncated[:-1]  # the row that holds the final observation, whose value is bootstrapped
        return Transitions(
            bootstraps=(~hopeless).float(),
            continues=(~(ended | reset_after)).float(),
            counts=(~abandoned).float(),
            skips=skips.float() if skips.any() else None,
        )

    def to(self, device: torch.device) -> Transitions:
        """The same on `device`, in one copy."""
        if self.counts.device == device:
            return self
        skips = [] if self.skips is None else [self.skips]
        parts = torch.stack([self.bootstraps, self.continues, self.counts, *skips])
        bootstraps, continues, counts, *skips = uploaded(parts, device)
        return Transitions(bootstraps=bootstraps, continues=continues, counts=counts, skips=skips[0] if skips else None)

    def columns(self, which: Tensor) -> Transitions:
        """Some trajectories of all: `which` [b] int64."""
        return self._map(lambda x: x[:, which])

    def _map(self, change: Callable[[Tensor], Tensor]) -> Transitions:
        return Transitions(
            bootstraps=change(self.bootstraps),
            continues=change(self.continues),
            counts=change(self.counts),
            skips=None if self.skips is None else change(self.skips),
        )

    def next_values(self, values: Tensor, behind: Tensor) -> Tensor:
        """[T, B]: the value of what follows each row, from `values` [T, B] and that of row T, `behind` [B]."""
        if self.skips is None:
            return torch.cat([values[1:], behind.unsqueeze(0)])
        kept = 1.0 - self.skips
        seen = torch.cat([values, behind.unsqueeze(0)])
        for t in range(len(values) - 1, 0, -1):
            seen[t] = kept[t] * values[t] + self.skips[t] * self.bootstraps[t] * seen[t + 1]
        return seen[1:]

    def decays(self, decay: float, traces: Tensor | None = None) -> Tensor:
        """[T, B]: how much the correction of what follows counts in each row: `decay` times the row's trace, which is 1
        without `traces` [T, B]; all of it in a skipped row."""
        decays = decay * self.continues if traces is None else decay * self.continues * traces
        return decays if self.skips is None else torch.where(self.skips > 0.0, self.continues, decays)

    def without_skipped(self, deltas: Tensor) -> Tensor:
        """`deltas` [T, B], 0 where a row says nothing."""
        return deltas * self.counts if self.skips is None else deltas * self.counts * (1.0 - self.skips)


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
    next_values = transitions.next_values(values, bootstrap_values)
    deltas = rewards + gamma * transitions.bootstraps * next_values - values
    advantages = reverse_scan(transitions.without_skipped(deltas), transitions.decays(gamma * gae_lambda))
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
    weigh_advantages: bool = True,
) -> Returns:
    """Espeholt et al. 2018, "IMPALA", section 4.1 and remark 2. Targets are v_t, advantages
    rho_t (r_t + gamma (V_{t+1} + lambda (v_{t+1} - V_{t+1})) - V_t), which is the paper's with lambda = 1 and
    generalized advantage estimation where the policy that acted is the current one.

    v_t - V_t = rho_t delta_t + gamma lambda c_t (v_{t+1} - V_{t+1}), where rho_t = min(rho_clip, ratio_t) and
    c_t = min(c_clip, ratio_t); behind the last row v and V are both `bootstrap_values` [B]. ratios [T, B] are
    pi(a_t) / mu(a_t) of the current policy and the one that acted. Without `weigh_advantages` they lack the factor
    rho_t, for an objective that weighs them by the ratio itself.
    """
    rhos = ratios.clamp(max=rho_clip)
    traces = ratios.clamp(max=c_clip)
    next_values = transitions.next_values(values, bootstrap_values)
    errors = transitions.without_skipped(rewards + gamma * transitions.bootstraps * next_values - values)
    deltas = rhos * errors
    corrections = reverse_scan(deltas, transitions.decays(gamma * trace_lambda, traces))
    next_corrections = torch.cat([corrections[1:], torch.zeros_like(corrections[:1])])
    following = transitions.decays(gamma * trace_lambda) * next_corrections
    advantages = deltas + rhos * following if weigh_advantages else errors + following
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
