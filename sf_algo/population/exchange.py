"""Population-based training (Jaderberg et al. 2017, arXiv 1711.09846, in the asynchronous form of Petrenko et al. 2020,
arXiv 2006.11751, appendix): who takes over what from whom, and with which hyperparameters. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sf_algo.population.mutation import MutationRules, Tunable, mutated


@dataclass(frozen=True, kw_only=True)
class Member:
    """A policy of the population at one moment."""

    policy: int
    role: int = 0
    """Only policies of one role take over from each other."""
    clock: int
    """Frames that a policy of the population has been trained on so far, on average. Not its own: a policy that loses
    soon collects little, and would have to wait longest for what it needs most."""
    last_update: int | None = None
    """The clock when it last had its turn; None: never."""
    objective: float | None = None
    """Higher is better; None: no episode has told it yet."""
    has_learned: bool = True
    """It was trained at all: what was never trained is worth nothing to others."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Its hyperparameters and reward shaping, by name."""
    begun_with: Mapping[str, float] = field(default_factory=dict)
    """The same at the start of the training."""

    @property
    def is_ready(self) -> bool:
        """It can be ranked, can give and receive."""
        return self.has_learned and self.objective is not None and math.isfinite(self.objective)


@dataclass(frozen=True, kw_only=True)
class PopulationRules:
    """When a policy has its turn, and what justifies replacing it."""

    period_frames: int = 5_000_000
    start_frames: int = 20_000_000
    replace_fraction: float = 0.3
    gap: float = 0.1
    """Share of the donor's objective by which it must be better."""
    gap_absolute: float = 1e-6
    mutation: MutationRules = field(default_factory=MutationRules)


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """What a policy's turn comes to: `donor` None means that it keeps what it has learned."""

    policy: int
    donor: int | None
    overrides: Mapping[str, float]
    """Its hyperparameters and reward shaping from now on, by name: all of them."""
    changed: Mapping[str, tuple[float, float]]
    """Those that changed: before, after."""
    objective: float
    """The policy's own, before."""
    donor_objective: float | None = None

    @property
    def is_nothing(self) -> bool:
        return self.donor is None and not self.changed


def update(
    members: Sequence[Member], rules: PopulationRules, tunables: Sequence[Tunable], *, seed: int
) -> list[Exchange]:
    """One turn of every policy that is due and can be ranked; empty where none is.

    Policies of a role are ranked by their objective. The best share keeps everything. The worst share takes over from
    a random one of the best where both gaps are passed. All but the best mutate. A policy that has learned nothing or
    ended no episode takes no part, and nobody waits for it. The same members and seed give the same turns, in whatever
    order and however often they are asked for.
    """
    found = []
    for member in sorted(members, key=lambda one: one.policy):
        if is_due(member, rules) and member.is_ready:
            ranked = _ranked([one for one in members if one.role == member.role and one.is_ready])
            if len(ranked) > 1:
                rng = np.random.default_rng([seed, member.policy, member.clock])
                found.append(_turn(member, ranked, rules, tunables, rng))
    return found


def is_due(member: Member, rules: PopulationRules) -> bool:
    """Whether it is the policy's turn by the clock."""
    if member.clock < rules.start_frames:
        return False
    return member.last_update is None or member.clock - member.last_update >= rules.period_frames


def _ranked(members: Sequence[Member]) -> list[Member]:
    """Best first; of equals the first policy."""
    return sorted(members, key=lambda one: (-_objective(one), one.policy))


def _objective(member: Member) -> float:
    assert member.objective is not None
    return member.objective


def _turn(
    member: Member,
    ranked: Sequence[Member],
    rules: PopulationRules,
    tunables: Sequence[Tunable],
    rng: np.random.Generator,
) -> Exchange:
    share = min(math.ceil(rules.replace_fraction * len(ranked)), len(ranked) // 2)
    best, worst = ranked[: max(1, share)], ranked[len(ranked) - share :]
    donor: Member | None = None
    if any(one.policy == member.policy for one in best):
        return _exchange(member, None, member.values)
    if any(one.policy == member.policy for one in worst):
        candidate = best[int(rng.integers(len(best)))]
        donor = candidate if _is_worth_it(candidate, member, rules) else None
    values = dict(donor.values if donor is not None else member.values)
    return _exchange(member, donor, mutated(values, member.begun_with, tunables, rules.mutation, rng))


def _exchange(member: Member, donor: Member | None, values: Mapping[str, float]) -> Exchange:
    before = member.values
    return Exchange(
        policy=member.policy,
        donor=None if donor is None else donor.policy,
        overrides=dict(values),
        changed={name: (before.get(name, v), v) for name, v in values.items() if before.get(name) != v},
        objective=_objective(member),
        donor_objective=None if donor is None else donor.objective,
    )


def _is_worth_it(donor: Member, member: Member, rules: PopulationRules) -> bool:
    better = _objective(donor) - _objective(member)
    return better > rules.gap_absolute and better > rules.gap * abs(_objective(donor))
