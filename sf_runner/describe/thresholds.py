"""Which value of a metric counts as learned: fixed in the run description, before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from sf_runner.basics.errors import DescriptionError

EVERY = "*"


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """`pattern`: names it is meant for, with `*`, `?` and `[...]`. `metric`: of which metric, None: the first one that
    is reported. `value`: the one to reach."""

    pattern: str
    metric: str | None
    value: float

    def is_for(self, *names: str) -> bool:
        """Whether it is meant for what has one of these names; small and capital letters are the same."""
        return any(fnmatchcase(name.lower(), self.pattern.lower()) for name in names)


def checked_thresholds(run_name: str, thresholds: object) -> dict[str, float]:
    """`{"cartpole*": 475, "battle@kills": 10}` as a description has it. Raises DescriptionError."""
    if thresholds is None:
        return {}
    where = f"RunDescription '{run_name}': thresholds"
    if not isinstance(thresholds, Mapping):
        raise DescriptionError(f"{where} must be a dict such as {{'cartpole*': 475}}, got {thresholds!r}")
    found = {}
    for key, value in thresholds.items():
        if not isinstance(key, str) or not key.split("@")[0] or key.endswith("@"):
            raise DescriptionError(f"{where}: a name must be a text such as 'cartpole*' or 'battle@kills', got {key!r}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise DescriptionError(f"{where}: that of '{key}' must be a number, got {value!r}")
        found[key] = float(value)
    return found


def thresholds_of(given: Mapping[str, float]) -> list[Threshold]:
    """Of what `checked_thresholds` has let through, in the same order."""
    split = [(*key.partition("@"), value) for key, value in given.items()]
    return [Threshold(pattern=pattern, metric=metric or None, value=value) for pattern, _, metric, value in split]
