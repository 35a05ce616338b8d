"""When a run will be done, from measured durations, and how sure that is. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sf_runner.progress import Progress
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import JobRecord, Running, Stopping

_SURE = 1.96  # standard deviations of a 95 % interval of a normal distribution


LEAST_DOUBT_S = 1.0
"""Less than this is not worth telling, and experiments that took equally long so far promise nothing that exact."""


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
            return text + " (a rough guess)"
        if self.plus_minus_s < LEAST_DOUBT_S:
            return text
        return f"{text} (+- {format_duration(self.plus_minus_s)})"


def estimate(state: RunState, now: float, etas_s: Mapping[str, float] | None = None) -> Estimate | None:
    """Time until every planned job has ended; None while nothing is known.

    `etas_s`: what running jobs themselves say is left (see `etas`); jobs that say nothing are expected to take as long
    as succeeded ones took on average. A run that drains ends with its running jobs.
    """
    told = etas_s or {}
    known = state.durations
    waiting = 0 if state.draining is not None else state.count("Waiting")
    running = [record for record in state.active.values() if not isinstance(record.state, Stopping)]
    if not waiting and not running:
        return None
    mean_s = known.mean_s
    if not known.count:
        totals = [_elapsed_s(record, now) + told[record.job_id] for record in running if record.job_id in told]
        if not totals:
            return None
        mean_s = sum(totals) / len(totals)
    left = []
    for record in running:
        by_mean = max(mean_s - _elapsed_s(record, now), 0.1 * mean_s)
        left.append(told.get(record.job_id, by_mean))
    jobs_left = waiting + len(running)
    slots = max(1, min(state.max_parallel or len(running), jobs_left))
    left_s = max((sum(left) + waiting * mean_s) / slots, max(left, default=0.0))
    if waiting:  # the last one still has to get a slot and to run
        left_s = max(left_s, mean_s + (min(left) if len(left) >= slots else 0.0))
    if known.count < 2:
        return Estimate(left_s=left_s, plus_minus_s=None)
    # The sum of the jobs left varies with their spread, and with how well the mean is known.
    variance = jobs_left * known.stddev_s**2 + (jobs_left * known.stddev_s) ** 2 / known.count
    return Estimate(left_s=left_s, plus_minus_s=_SURE * math.sqrt(variance) / slots)


def _elapsed_s(record: JobRecord, now: float) -> float:
    return record.state.elapsed_s(now) if isinstance(record.state, Running) else 0.0


def etas(progress: Mapping[str, Progress], now: float) -> dict[str, float]:
    """By job: the seconds it said are left for it, less the time since it said so."""
    return {
        job: max(0.0, said.eta_s - max(0.0, now - said.time_unix_s))
        for job, said in progress.items()
        if said.eta_s is not None
    }


def format_duration(seconds: float) -> str:
    """Two units at most: `45 s`, `3 min 20 s`, `2 h 10 min`, `3 d 4 h`."""
    seconds = max(0.0, seconds)
    whole = round(seconds)
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
