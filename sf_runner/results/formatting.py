"""Numbers as text for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

MISSING = "–"


def decimals(values: Iterable[float | None]) -> int | None:
    """Decimals that show four digits of the largest of the numbers; None when the smallest would all but vanish."""
    sizes = [abs(value) for value in values if value is not None and value != 0 and math.isfinite(value)]
    if not sizes:
        return 2
    largest, smallest = max(sizes), min(sizes)
    if largest >= 1e7 or largest < 1e-3:
        return None
    found = min(max(3 - math.floor(math.log10(largest)), 0), 6)
    return found if smallest >= 10.0**-found else None


def number(value: float | None, places: int | None) -> str:
    """`places`: decimals; None: four significant digits."""
    if value is None:
        return MISSING
    return f"{value:.4g}" if places is None else f"{value:.{places}f}"


def step_text(step: float) -> str:
    """`1,200,000`."""
    return f"{step:,.0f}" if step == int(step) or abs(step) >= 1000 else f"{step:.4g}"


def short_number(value: float, digits: int = 4) -> str:
    """For axes: `0`, `250k`, `1.5M`, `2B`; at most so many significant digits."""
    size = abs(value)
    for factor, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if size >= factor:
            return f"{value / factor:.{digits}g}{suffix}"
    return f"{value:.{digits}g}"


def tick_labels(values: Sequence[float]) -> list[str]:
    """`short_number` of each, with as many digits as tell them apart."""
    labels: list[str] = []
    for digits in range(4, 13):
        labels = [short_number(value, digits) for value in values]
        if len(set(labels)) == len(set(values)):
            break
    return labels


def plural(count: int, word: str) -> str:
    """`1 seed`, `2 seeds`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"
