"""How often, and after how long, trainings reach a threshold. Pure.

Whoever has not reached it so far is censored: it may yet, later than its last value. The share that has reached it by a
step is one minus the product-limit estimate of Kaplan and Meier (1958). Its interval is Wilson's, for the number of
experiments that would have the variance of Greenwood's formula (effective sample size, Dorey and Korn 1987): without
censoring just Wilson's, which unlike the usual ones is sound for 0 and for all of a few.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sf_runner.results.curves import Curve, Floats
from sf_runner.results.statistics import Interval

_Z = 1.959963984540054
"""Of the normal distribution, 95 % lie within so many standard deviations."""


@dataclass(frozen=True, kw_only=True)
class Reached:
    """One training. `step` and `elapsed_s` of the first value that is good enough; None when there is none."""

    step: float | None = None
    elapsed_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """The share of trainings that has reached the threshold, as a function of steps or of seconds.

    at: where the share grows, ascending; share, low, high: from there on, with its interval. All [K].
    censored: where trainings ended, or are now, that have not reached it.
    last: the greatest position any training has come to.
    """

    at: Floats
    share: Floats
    low: Floats
    high: Floats
    censored: Floats
    last: float

    def quantile(self, share: float) -> float | None:
        """Where so many have reached it; None when that has not been."""
        enough = np.flatnonzero(self.share >= share - 1e-9)
        return float(self.at[enough[0]]) if len(enough) else None


@dataclass(frozen=True, kw_only=True)
class Reach:
    """One configuration. `ended`: experiments that will not train any further; `reached`: how many of them were good
    enough at any time; `interval`: of their share, None when none has ended. `steps`, `seconds`: over all that have
    begun; None when none has a value."""

    threshold: float
    ended: int
    reached: int
    interval: Interval | None
    steps: Arrival | None
    seconds: Arrival | None

    @property
    def share(self) -> float | None:
        return self.reached / self.ended if self.ended else None


def first_reached(curve: Curve, threshold: float, *, lower_is_better: bool) -> Reached:
    """The first value at least (or, where less is better, at most) as good as the threshold."""
    good = curve.values <= threshold if lower_is_better else curve.values >= threshold
    found = np.flatnonzero(good)
    if not len(found):
        return Reached()
    return Reached(step=float(curve.steps[found[0]]), elapsed_s=float(curve.elapsed_s[found[0]]))


def reach(threshold: float, curves: Sequence[Curve], reached: Sequence[Reached], ended: Sequence[bool]) -> Reach:
    """All three of the same experiments, in the same order; a curve may be empty."""
    count = sum(end and found.step is not None for end, found in zip(ended, reached, strict=True))
    begun = [(curve, found) for curve, found in zip(curves, reached, strict=True) if len(curve)]
    return Reach(
        threshold=threshold,
        ended=sum(ended),
        reached=count,
        interval=wilson(count, sum(ended)) if any(ended) else None,
        steps=arrival([found.step for _, found in begun], [float(curve.steps[-1]) for curve, _ in begun]),
        seconds=arrival([found.elapsed_s for _, found in begun], [float(curve.elapsed_s[-1]) for curve, _ in begun]),
    )


def wilson(successes: float, trials: float) -> Interval:
    """95 % score interval of a share (Wilson 1927). `trials` > 0; both may be fractions."""
    share, squared = successes / trials, _Z * _Z
    center = (share + squared / (2 * trials)) / (1 + squared / trials)
    half = _Z * math.sqrt(share * (1 - share) / trials + squared / (4 * trials * trials)) / (1 + squared / trials)
    # Exact at the ends, where rounding would leave a trace.
    low = 0.0 if successes <= 0 else max(0.0, center - half)
    return Interval(low=low, high=1.0 if successes >= trials else min(1.0, center + half))


def arrival(events: Sequence[float | None], ends: Sequence[float]) -> Arrival | None:
    """events: where each training reached the threshold, None: not before its end. None without trainings."""
    if not ends:
        return None
    happened = np.array([event for event in events if event is not None], dtype=np.float64)
    censored = np.array([end for event, end in zip(events, ends, strict=True) if event is None], dtype=np.float64)
    at = np.unique(happened)
    surviving, variance = 1.0, 0.0
    shares, intervals = [], []
    effective = float(len(ends))
    for moment in at:
        # Whoever is censored at the very moment still counts as present there.
        present = int((happened >= moment).sum() + (censored >= moment).sum())
        count = int((happened == moment).sum())
        before = surviving
        surviving *= 1 - count / present
        if count < present:
            variance += count / (present * (present - count))
            effective = (1 - surviving) / (surviving * variance)
        else:  # everybody left arrives at once: the limit of the same
            effective = present / before
        shares.append(1 - surviving)
        intervals.append(wilson((1 - surviving) * effective, effective))
    return Arrival(
        at=at,
        share=np.array(shares),
        low=np.array([interval.low for interval in intervals]),
        high=np.array([interval.high for interval in intervals]),
        censored=np.sort(censored),
        last=float(max(ends)),
    )
