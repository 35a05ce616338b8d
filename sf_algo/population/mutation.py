"""Numbers of a policy that population-based training changes, and how one of them changes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np

from sf_algo.config.per_policy import SHAPING_PREFIX

RESET_SHARE = 0.05
"""Of the mutations of a number, the share that puts it back to what the policy began with."""
GAMMA_FACTOR = (1.01, 1.2)
"""1 - gamma is multiplied or divided by a number from this range: the horizon of the discount is what matters."""


class Kind(Enum):
    """How a number changes."""

    SCALE = "times or divided by a factor"
    DISCOUNT = "its distance from 1 changes"
    COUNT = "a factor, then the nearest multiple"


@dataclass(frozen=True, kw_only=True)
class Tunable:
    """A number that mutates. Zero means that something is switched off, which mutations leave alone."""

    name: str
    kind: Kind = Kind.SCALE
    lowest: float = 1e-10
    highest: float = 1e10
    multiple: int = 1
    """Of `COUNT`."""


@dataclass(frozen=True, kw_only=True)
class MutationRules:
    """Sizes and probabilities of mutations."""

    rate: float = 0.15
    """Probability that a number changes at all."""
    factor_min: float = 1.05
    factor_max: float = 1.5


LEARNING = (
    Tunable(name="learning_rate", highest=1.0),
    Tunable(name="exploration_loss_coeff", highest=1e3),
    Tunable(name="value_loss_coeff", highest=1e3),
    Tunable(name="max_grad_norm", highest=1e6),
    Tunable(name="ppo_clip_ratio", lowest=1e-3, highest=10.0),
    Tunable(name="ppo_clip_value", lowest=1e-3, highest=1e6),
)
"""What is always tuned of the learner."""
GAMMA = Tunable(name="gamma", kind=Kind.DISCOUNT, lowest=0.0, highest=0.99999)


def batch_size(*, rollout: int, largest: int) -> Tunable:
    """Samples of a minibatch: whole trajectories, at most those of an iteration."""
    return Tunable(name="batch_size", kind=Kind.COUNT, lowest=rollout, highest=largest, multiple=rollout)


def shaping(names: Iterable[str]) -> list[Tunable]:
    """Numbers that shape rewards, by their full names (`delta/health`); negative ones stay negative."""
    return [Tunable(name=SHAPING_PREFIX + name) for name in names]


def mutated(
    values: Mapping[str, float],
    begun_with: Mapping[str, float],
    tunables: Iterable[Tunable],
    rules: MutationRules,
    rng: np.random.Generator,
) -> dict[str, float]:
    """A policy's numbers after a round of mutations. `begun_with`: what it had at the start of the training. Tunables
    that are not among `values` are left out; numbers that no tunable names stay."""
    found = dict(values)
    for tunable in tunables:
        if tunable.name in found and rng.random() < rules.rate:
            before, start = found[tunable.name], begun_with.get(tunable.name, found[tunable.name])
            found[tunable.name] = _mutate(before, start, tunable, rules, rng)
    return found


def _mutate(value: float, start: float, tunable: Tunable, rules: MutationRules, rng: np.random.Generator) -> float:
    if value != start and rng.random() < RESET_SHARE:
        return start
    if value == 0.0 and tunable.kind is not Kind.DISCOUNT:
        return value
    lowest, highest = GAMMA_FACTOR if tunable.kind is Kind.DISCOUNT else (rules.factor_min, rules.factor_max)
    factor = float(rng.uniform(lowest, highest))
    factor = factor if rng.random() < 0.5 else 1.0 / factor
    if tunable.kind is Kind.DISCOUNT:
        return _within(1.0 - (1.0 - value) * factor, value, tunable)
    if tunable.kind is Kind.COUNT:
        return _within(_other_multiple(value, value * factor, tunable.multiple), value, tunable)
    return float(np.copysign(_within(abs(value) * factor, abs(value), tunable), value))


def _within(value: float, before: float, tunable: Tunable) -> float:
    """Inside the bounds; a value outside of them that a user chose is not pulled back."""
    return min(max(value, min(tunable.lowest, before)), max(tunable.highest, before))


def _other_multiple(before: float, wanted: float, multiple: int) -> float:
    """The multiple nearest to `wanted`, at least one step away from `before`."""
    nearest = round(wanted / multiple) * multiple
    if nearest == before:
        nearest += multiple if wanted > before else -multiple
    return float(nearest)
