"""`--per_policy`: hyperparameters in which the policies of one training differ from the start."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sf_algo.config.flags import FlagSpec, specs_of
from sf_algo.config.learner import LearnerConfig
from sf_algo.config.sections import Config
from sf_algo.config.values import nearest

SHAPING_PREFIX = "shaping/"
"""Names of reward shaping among the hyperparameters of a policy: `shaping/delta/health`."""
ALIKE = frozenset(
    {
        "rollout",
        "recurrence",
        "num_batches_per_iteration",
        "num_minibatches_to_accumulate",
        "obs_subtract_mean",
        "obs_scale",
    }
)
"""Numbers of the section `rl` that decide the shape of slots, batches and networks: the same for all policies."""
_EXAMPLE = "write for example learning_rate:1e-5..1e-3, or learning_rate:1e-5/1e-4/1e-3 for three policies"


class PerPolicyError(ValueError):
    """The text is no such entry; the message completes ``--per_policy=text: ...``."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """One entry: a number's values for all policies."""

    name: str
    values: tuple[float, ...]
    is_range: bool
    """`values` are the first and the last policy's; those between are spaced evenly on a logarithmic scale."""

    def of(self, policy: int, num_policies: int) -> float:
        """That policy's value."""
        if not self.is_range:
            return self.values[policy]
        first, last = self.values
        share = policy / max(1, num_policies - 1)
        ends = {0.0: first, 1.0: last}  # exactly
        return float(ends.get(share, first ** (1.0 - share) * last**share))


def parse_spread(text: str) -> Spread:
    """`learning_rate:1e-7..1e-2` or `gamma:0.9/0.99`. Raises PerPolicyError."""
    name, colon, rest = text.partition(":")
    is_range = ".." in rest
    parts = rest.split("..") if is_range else rest.split("/")
    try:
        values = tuple(float(part) for part in parts)
    except ValueError:
        values = ()
    is_finite = all(math.isfinite(value) for value in values)
    if not (name and colon and values and is_finite) or (is_range and len(values) != 2):
        raise PerPolicyError(_EXAMPLE)
    if is_range and min(values) <= 0.0:
        raise PerPolicyError("a range is divided on a logarithmic scale, so both ends must be above 0; list the values")
    return Spread(name=name, values=values, is_range=is_range)


def values_of(config: Config, policy: int) -> dict[str, float]:
    """What `--per_policy` says of that policy, by name."""
    spreads = [parse_spread(text) for text in config.pbt.per_policy]
    return {spread.name: spread.of(policy, config.sampling.num_policies) for spread in spreads}


def policy_rl(config: Config, policy: int) -> LearnerConfig:
    """The section `rl` of one policy."""
    specs = _numbers()
    named = {name: value for name, value in values_of(config, policy).items() if name in specs}
    own: dict[str, Any] = {n: round(v) if specs[n].kind == "int" else v for n, v in named.items()}
    return replace(config.rl, **own)


def policy_shaping(config: Config, policy: int) -> dict[str, float]:
    """Reward shaping of one policy by its full names; empty where `--per_policy` names none."""
    own = values_of(config, policy)
    return {n.removeprefix(SHAPING_PREFIX): v for n, v in own.items() if n.startswith(SHAPING_PREFIX)}


def check_per_policy(config: Config) -> Iterator[str]:
    """Everything that is wrong with the flag, one line each."""
    count = config.sampling.num_policies
    for text in config.pbt.per_policy:
        try:
            spread = parse_spread(text)
            _check_name(spread.name)
            if not spread.is_range and len(spread.values) != count:
                raise PerPolicyError(f"{len(spread.values)} values for --num_policies={count}")
            _check_values(spread, [spread.of(policy, count) for policy in range(count)], config.rl)
        except PerPolicyError as error:
            yield f"--per_policy={text}: {error}"


def check_shaping(config: Config, known: Sequence[str]) -> list[str]:
    """Faults that show once the environment is known: shaping that it does not have."""
    names = policy_shaping(config, 0)
    return [
        f"--per_policy={SHAPING_PREFIX}{name}: the environment has no such reward shaping; it has "
        f"{', '.join(known) or 'none'}"
        for name in names
        if name not in known
    ]


def _numbers() -> Mapping[str, FlagSpec]:
    found = {spec.name: spec for spec in specs_of("rl", LearnerConfig)}
    return {n: s for n, s in found.items() if s.kind in ("int", "float") and not s.is_list and n not in ALIKE}


def _check_name(name: str) -> None:
    known = _numbers()
    if name in known or name.startswith(SHAPING_PREFIX):
        return
    hint = nearest(name, known)
    raise PerPolicyError(
        f"{name} is no hyperparameter that policies of one training can differ in"
        + (f"; did you mean {hint}?" if hint else f"; there are {', '.join(known)} and shaping/<name>")
    )


def _check_values(spread: Spread, values: Sequence[float], rl: LearnerConfig) -> None:
    spec = _numbers().get(spread.name)
    if spec is None:
        return
    info = spec.info
    for value in values:
        if info.at_least is not None and value < info.at_least:
            raise PerPolicyError(f"{value:g} must be at least {info.at_least:g}")
        if info.above is not None and value <= info.above:
            raise PerPolicyError(f"{value:g} must be above {info.above:g}")
        if info.at_most is not None and value > info.at_most:
            raise PerPolicyError(f"{value:g} must be at most {info.at_most:g}")
        largest = rl.batch_size * rl.num_batches_per_iteration
        if spread.name == "batch_size" and (value % rl.rollout or value > largest):
            raise PerPolicyError(
                f"{value:g} must be a multiple of --rollout={rl.rollout} and at most {largest}, what all policies "
                "collect for an iteration; list the values"
            )
