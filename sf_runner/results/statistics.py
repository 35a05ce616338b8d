"""Statistics over seeds.

Interquartile mean and stratified bootstrap as in Agarwal et al., "Deep Reinforcement Learning at the Edge of the
Statistical Precipice" (NeurIPS 2021): the mean of the middle half of the values (a quarter of them, rounded down, is
cut from either end), and percentile intervals over resamples drawn within each stratum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sf_runner.results.curves import Floats

RESAMPLES = 10_000
CURVE_RESAMPLES = 2_000
CONFIDENCE = 0.95
ALIKE_SHARE = 0.05
"""Curves whose ends differ by less of the whole range count as equally long."""

_TRIMMED_SHARE = 0.25


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """Of n >= 1 values. Intervals and the standard deviation (with n - 1) need two, and are None below."""

    n: int
    mean: float
    mean_interval: Interval | None
    iqm: float
    iqm_interval: Interval | None
    median: float
    stddev: float | None
    min: float
    max: float


def iqm(values: Floats) -> Floats:
    """Interquartile mean along the last axis: [..., N] -> [...]."""
    n = values.shape[-1]
    cut = int(_TRIMMED_SHARE * n)
    middle: Floats = np.sort(values, axis=-1)[..., cut : n - cut].mean(axis=-1)
    return middle


def aggregate(values: Sequence[float], strata: Sequence[object] | None = None, *, seed: int = 0) -> Aggregate:
    """Statistics of at least one value. `strata`: one label per value; values are resampled within their stratum."""
    array = np.asarray(values, dtype=np.float64)
    n = len(array)
    mean_interval = iqm_interval = None
    if n > 1:
        resampled = array[resample_indices(strata or [0] * n, RESAMPLES, seed=seed)]
        mean_interval = _interval(resampled.mean(axis=1))
        iqm_interval = _interval(iqm(resampled))
    return Aggregate(
        n=n,
        mean=float(array.mean()),
        mean_interval=mean_interval,
        iqm=float(iqm(array)),
        iqm_interval=iqm_interval,
        median=float(np.median(array)),
        stddev=float(array.std(ddof=1)) if n > 1 else None,
        min=float(array.min()),
        max=float(array.max()),
    )


def resample_indices(strata: Sequence[object], resamples: int, *, seed: int) -> NDArray[np.intp]:
    """Indices [resamples, N] drawn with replacement, each within the stratum of its position. The same for the same
    arguments: a row of a table does not change when another one is added."""
    rng = np.random.default_rng(seed)
    indices = np.empty((resamples, len(strata)), dtype=np.intp)
    for label in dict.fromkeys(strata):
        members = np.array([i for i, other in enumerate(strata) if other == label], dtype=np.intp)
        indices[:, members] = members[rng.integers(len(members), size=(resamples, len(members)))]
    return indices


def _interval(statistics: Floats) -> Interval:
    outside = (1.0 - CONFIDENCE) / 2
    low, high = np.quantile(statistics, [outside, 1.0 - outside])
    return Interval(low=float(low), high=float(high))


@dataclass(frozen=True, kw_only=True)
class Band:
    """Curves of several experiments as one: all arrays [G]. `n`: how many of them reach each position; `low` and `high`
    bound the mean and equal it where n is 1."""

    x: Floats
    mean: Floats
    low: Floats
    high: Floats
    n: NDArray[np.intp]

    @property
    def most(self) -> int:
        return int(self.n.max(initial=0))


def band(
    curves: Sequence[tuple[Floats, Floats]], strata: Sequence[object] | None = None, *, points: int = 200, seed: int = 0
) -> Band | None:
    """Mean and 95 % bootstrap interval of curves (x [N], y [N], x ascending) on a common grid of `points` positions.

    Between its points a curve is interpolated linearly; beyond its ends it does not count. Where all curves begin, or
    end, within a 20th of the whole range, the grid begins, or ends, where all of them do. None without any points.
    """
    drawn = [(x, y, i) for i, (x, y) in enumerate(curves) if len(x)]
    if not drawn:
        return None
    labels = [strata[i] if strata else 0 for _, _, i in drawn]
    grid = _grid([x for x, _, _ in drawn], points)
    values = np.stack([np.interp(grid, x, y, left=np.nan, right=np.nan) for x, y, _ in drawn])  # [curves, G]
    present = ~np.isnan(values)
    mean, low, high = (np.full(len(grid), np.nan) for _ in range(3))
    patterns, which = np.unique(present.T, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        columns = np.flatnonzero(which.reshape(-1) == number)
        rows = np.flatnonzero(pattern)
        if not len(rows):
            continue
        part = values[np.ix_(rows, columns)]
        mean[columns] = low[columns] = high[columns] = part.mean(axis=0)
        if len(rows) > 1:
            indices = resample_indices([labels[row] for row in rows], CURVE_RESAMPLES, seed=seed)
            outside = 50 * (1.0 - CONFIDENCE)
            low[columns], high[columns] = np.percentile(
                _resampled_means(part, indices), [outside, 100 - outside], axis=0
            )
    counted = present.sum(axis=0)
    reached = counted > 0  # a gap is possible: one curve may end before another begins
    return Band(
        x=grid[reached], mean=mean[reached], low=low[reached], high=high[reached], n=counted[reached].astype(np.intp)
    )


def _grid(xs: Sequence[Floats], points: int) -> Floats:
    firsts, lasts = [x[0] for x in xs], [x[-1] for x in xs]
    begin, end = min(firsts), max(lasts)
    slack = ALIKE_SHARE * (end - begin)
    if max(firsts) - begin <= slack:
        begin = max(firsts)
    if end - min(lasts) <= slack:
        end = min(lasts)
    return np.linspace(begin, end, points if end > begin else 1)


def _resampled_means(values: Floats, indices: NDArray[np.intp]) -> Floats:
    """values [N, G], indices [B, N] -> means [B, G], as one product with how often each value was drawn."""
    n = values.shape[0]
    counts = np.zeros((len(indices), n))
    for column in range(indices.shape[1]):
        counts[np.arange(len(indices)), indices[:, column]] += 1.0
    product: Floats = counts @ values / n
    return product
