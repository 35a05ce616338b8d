"""Reads what jobs say of themselves (progress files, histories) so seldom that it costs nothing.

Visible running jobs are looked at once a second, other running ones in turns, ended ones once. Only a file that
changed is read, and of a history only as many lines as a sparkline has points.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sf_runner.basics.paths import RunPaths
from sf_runner.progress import Progress, history_path, parse_progress, read_progress
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import ACTIVE, JobRecord
from sf_runner.state.summary import main_metric

COURSE_POINTS = 48
_EVERY_S = 1.0
_COURSE_EVERY_S = 5.0
_TURNS_PER_S = 128
_SMALL_HISTORY = 64 << 10
_CHUNK = 2048


@dataclass(kw_only=True, slots=True)
class _Sample:
    attempt: int
    looked_at: float = float("-inf")
    changed: int = -1
    final: bool = False
    progress: Progress | None = None
    course: tuple[float, ...] = ()
    course_metric: str = ""
    course_at: float = float("-inf")
    course_size: int = -1


class Sampler:
    """What running jobs say of themselves, and what ended ones said last."""

    def __init__(self, run_paths: RunPaths) -> None:
        self._root = os.path.abspath(run_paths.root)  # noqa: PTH100
        self._samples: dict[str, _Sample] = {}
        self._turn = 0
        self._turned_at: float | None = None
        self.version = 0
        self.metrics: dict[str, float] = {}
        """Every metric that some job reported."""

    @property
    def metric(self) -> str:
        """The one people most likely mean; empty when there is none."""
        return main_metric(self.metrics) if self.metrics else ""

    def progress(self, job: str) -> Progress | None:
        sample = self._samples.get(job)
        return sample.progress if sample is not None else None

    def course(self, job: str, metric: str) -> tuple[float, ...]:
        """The metric's values over time, a few of them; filled in for visible jobs."""
        sample = self._samples.get(job)
        return sample.course if sample is not None and sample.course_metric == metric else ()

    def etas_s(self, state: RunState) -> dict[str, float]:
        """What running jobs themselves say is left."""
        found = {}
        for job in state.active:
            progress = self.progress(job)
            if progress is not None and progress.eta_s is not None:
                found[job] = progress.eta_s
        return found

    def fps(self, state: RunState) -> float:
        """Of all running jobs together."""
        return sum(p.fps or 0.0 for p in map(self.progress, state.active) if p is not None)

    def done_fraction(self, state: RunState) -> float:
        """What running jobs have done, in jobs: 2.5 when five are half through."""
        return sum(p.fraction or 0.0 for p in map(self.progress, state.active) if p is not None)

    def look(self, state: RunState, visible: Sequence[JobRecord], now: float, *, metric: str, courses: bool) -> None:
        """Bring up to date what will be shown. `courses`: sparklines are shown too."""
        for record in visible:
            self._look_at(record, now)
            if courses:
                self._look_at_course(record, now, metric or self.metric)
        self._look_in_turns(state, now)

    def look_at_all(self, records: Iterable[JobRecord], now: float, *, at_most: int) -> bool:
        """For sorting by progress: look at ended jobs that nobody looked at yet. Whether all are known now."""
        for record in records:
            sample = self._samples.get(record.job_id)
            if record.attempts and (sample is None or sample.attempt != record.attempts):
                if at_most <= 0:
                    return False
                at_most -= 1
                self._look_at(record, now)
        return True

    # ---- progress files ------------------------------------------------------------------------------------

    def _look_in_turns(self, state: RunState, now: float) -> None:
        """Running jobs out of sight count in the sums: each once a second as long as there are not too many."""
        passed = _EVERY_S if self._turned_at is None else min(now - self._turned_at, _EVERY_S)
        number = min(int(passed * _TURNS_PER_S), len(state.active))
        if number <= 0:
            return
        self._turned_at = now
        jobs = list(state.active.values())
        for offset in range(number):
            self._look_at(jobs[(self._turn + offset) % len(jobs)], now)
        self._turn = (self._turn + number) % len(jobs)

    def _look_at(self, record: JobRecord, now: float) -> None:
        if not record.attempts:
            return
        sample = self._samples.get(record.job_id)
        if sample is None or sample.attempt != record.attempts:
            sample = self._samples[record.job_id] = _Sample(attempt=record.attempts)
        if sample.final or now - sample.looked_at < _EVERY_S * 0.9:
            return
        sample.looked_at = now
        if not isinstance(record.state, ACTIVE):  # one last look
            sample.final, sample.course_size = True, -1
        path = f"{self._root}/{record.job_id}/job/progress.json"
        try:
            changed = os.stat(path).st_mtime_ns  # noqa: PTH116
        except OSError:
            return
        if changed != sample.changed:
            sample.changed, before = changed, sample.changed
            progress = read_progress(path)
            if progress is not None and progress.is_of(record.attempts):
                # What is new was said just now, whatever the clock of its machine says.
                sample.progress = progress if before < 0 else replace(progress, time_unix_s=time.time())
                self.version += 1
                if not progress.metrics.keys() <= self.metrics.keys():
                    self.metrics |= progress.metrics

    # ---- histories -----------------------------------------------------------------------------------------

    def _look_at_course(self, record: JobRecord, now: float, metric: str) -> None:
        sample = self._samples.get(record.job_id)
        if sample is None or not metric:
            return
        known = sample.course_metric == metric and sample.course_size >= 0
        if known and (sample.final or now - sample.course_at < _COURSE_EVERY_S):
            return
        path = history_path(f"{self._root}/{record.job_id}/job/progress.json")
        try:
            size = os.stat(path).st_size  # noqa: PTH116
        except OSError:
            size = 0
        sample.course_at = now
        if size != sample.course_size or sample.course_metric != metric:
            sample.course_size, sample.course_metric = size, metric
            sample.course = read_course(path, metric, COURSE_POINTS) if size else ()


def read_course(path: str | Path, metric: str, points: int) -> tuple[float, ...]:
    """At most about `points` values of a metric, evenly spread over the history file, the newest last.

    The cost does not depend on how long the history is.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            size = os.fstat(file.fileno()).st_size
            if size <= _SMALL_HISTORY:
                lines = file.read(_SMALL_HISTORY).split(b"\n")
                lines = [line for line in lines if line]
                step = max(1, len(lines) / points)
                chosen = [lines[-1 - int(index * step)] for index in range(min(points, len(lines)))][::-1]
            else:
                chosen = [_line_at(file.fileno(), size, size * index // points) for index in range(1, points)]
                chosen.append(_last_line(file.fileno(), size))
    except OSError:
        return ()
    found = (parse_progress(line) for line in chosen if line)
    return tuple(p.metrics[metric] for p in found if p is not None and metric in p.metrics)


def _line_at(fd: int, size: int, offset: int) -> bytes:
    """The first whole line after an offset; empty when lines are longer than the chunk read."""
    parts = os.pread(fd, min(_CHUNK, size - offset), offset).split(b"\n", 2)
    return parts[1] if len(parts) > 2 else b""


def _last_line(fd: int, size: int) -> bytes:
    lines = os.pread(fd, _CHUNK, max(0, size - _CHUNK)).split(b"\n")
    return lines[-2] if len(lines) > 2 else b""
