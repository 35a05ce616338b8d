"""When a run will be done, from measured durations, and how sure that is. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sf_runner.job_state import Running, Stopping
from sf_runner.run_state import RunState

_SURE = 1.96  # standard deviations of a 95 % interval of a normal distribution


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Seconds left, and half the width of a 95 % interval around it (None: nothing to judge that by)."""

    left_s: float
    plus_minus_s: float | None

    @property
    def text(self) -> str:
        """E.g. `about 2 h 10 min left (+- 15 min)`."""
        text = f"about {format_duration(self.left_s)} left"
        if self.plus_minus_s is None:
            return text + " (one guess)"
        return f"{text} (+- {format_duration(self.plus_minus_s)})"


def estimate(state: RunState, now: float, etas_s: Mapping[str, float] | None = None) -> Estimate | None:
    """Time until every planned job has ended; None while nothing is known.

    `etas_s`: what running jobs themselves say is left (their progress files); jobs that say nothing are expected to
    take as long as succeeded ones took on average.
    """
    etas = etas_s or {}
    known = state.durations
    waiting = state.count("Waiting")
    running = list(state.active.values())
    if not waiting and not running:
        return None
    mean_s, stddev_s = known.mean_s, known.stddev_s
    if not known.count:
        totals = []
        for record in running:
            started = _started_at(record.state)
            if record.job_id in etas and started is not None:
                totals.append(now - started + etas[record.job_id])
        if not totals:
            return None
        mean_s = sum(totals) / len(totals)
    left = []
    for record in running:
        started = _started_at(record.state)
        elapsed = now - started if started is not None else 0.0
        left.append(etas.get(record.job_id, max(mean_s - elapsed, 0.1 * mean_s)))
    slots = max(1, min(state.max_parallel or len(running) or 1, waiting + len(running)))
    busy = sum(left) + waiting * mean_s
    left_s = max(busy / slots, max(left, default=0.0))
    if known.count < 2:
        return Estimate(left_s=left_s, plus_minus_s=None)
    # The sum of the jobs left varies with their spread, and with how well the mean is known.
    jobs_left = waiting + len(running)
    variance = jobs_left * stddev_s**2 + (jobs_left * stddev_s) ** 2 / known.count
    return Estimate(left_s=left_s, plus_minus_s=_SURE * math.sqrt(variance) / slots)


def _started_at(state: object) -> float | None:
    if isinstance(state, Stopping):
        state = state.running
    return state.started_at if isinstance(state, Running) else None


def format_duration(seconds: float) -> str:
    """Two units at most: `45 s`, `3 min 20 s`, `2 h 10 min`, `3 d 4 h`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 and seconds != whole else f"{whole} s"
    for size, name, small, small_name in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            major, rest = divmod(whole, size)
            minor = rest // small
            return f"{major} {name} {minor} {small_name}" if minor else f"{major} {name}"
    raise AssertionError("unreachable")
