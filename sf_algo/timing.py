"""Where the time of a frame goes: stages of every process, and what the kernel says each process has used (--profile).

The figures are differences of counters that are kept anyway, so asking for them costs nothing while frames are made.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from sf_algo.cpus import usable_cpus


class Stage(Enum):
    """What a process can be busy with. The rest of its time it waits."""

    ENVIRONMENT = "environment"
    """Stepping, resetting and writing down what was seen."""
    TRANSPORT = "transport"
    """Gathering what others wrote, handing results back, waking each other."""
    INFERENCE = "inference"
    """The forward pass of acting and the drawing of actions."""
    BATCHING = "batching"
    """Copying full slots into batches."""
    LEARNING = "learning"
    """Training, publishing and taking over weights."""


@dataclass(frozen=True, kw_only=True)
class ProcessTimes:
    """Counters of one process since it began."""

    name: str
    pid: int
    busy_s: Mapping[Stage, float] = field(default_factory=dict)


class Timed(Protocol):
    """Something that knows how its processes spend their time."""

    def process_times(self) -> Sequence[ProcessTimes]:
        """Processes of the same pid are parts of one and add up."""


def merged(times: Sequence[ProcessTimes]) -> list[ProcessTimes]:
    """One entry per process, in the order of first mention, under the first name."""
    by_pid: dict[int, ProcessTimes] = {}
    for one in times:
        known = by_pid.get(one.pid)
        if known is None:
            by_pid[one.pid] = one
        else:
            sums = {stage: known.busy_s.get(stage, 0.0) + one.busy_s.get(stage, 0.0) for stage in Stage}
            by_pid[one.pid] = ProcessTimes(name=known.name, pid=one.pid, busy_s=sums)
    return list(by_pid.values())


@dataclass(frozen=True, kw_only=True)
class ProfileRow:
    """Seconds of one process between two moments."""

    name: str
    busy_s: Mapping[Stage, float]
    cpu_s: float | None
    """Processor time, that of its own child processes (game engines) included; None where it is unknown."""


def difference(
    before: Sequence[ProcessTimes],
    after: Sequence[ProcessTimes],
    cpu_before: Mapping[int, float],
    cpu_after: Mapping[int, float],
) -> list[ProfileRow]:
    """A process that was replaced in between counts from its own beginning."""
    known = {one.pid: one for one in before}
    rows = []
    for one in after:
        earlier = known[one.pid].busy_s if one.pid in known else {}
        busy = {stage: max(0.0, one.busy_s.get(stage, 0.0) - earlier.get(stage, 0.0)) for stage in Stage}
        cpu = cpu_after[one.pid] - cpu_before.get(one.pid, 0.0) if one.pid in cpu_after else None
        rows.append(ProfileRow(name=one.name, busy_s=busy, cpu_s=cpu))
    return rows


def profile_table(
    rows: Sequence[ProfileRow],
    *,
    frames: int,
    seconds: float,
    cores: int,
    work: Mapping[Stage, float] = MappingProxyType({}),
) -> str:
    """Microseconds per frame of every process and of all together. `work`: floating-point operations of a frame's
    products in a stage."""
    names = [stage.value for stage in Stage]
    head = f"{'us per frame':24}" + "".join(f"{name:>12}" for name in [*names, "idle", "processor"])
    lines = [
        f"where the time of a frame went: {frames:,} frames in {seconds:.1f} s, {frames / seconds:,.0f} frames/s on "
        f"{cores} cores ({1e6 * seconds * cores / frames:,.0f} us of cores per frame)",
        head,
    ]
    for row in rows:
        idle = max(0.0, seconds - sum(row.busy_s.values()))
        lines.append(_line(row.name, [row.busy_s[stage] for stage in Stage], idle, row.cpu_s, frames))
    totals = [sum(row.busy_s[stage] for row in rows) for stage in Stage]
    cpu = [row.cpu_s for row in rows if row.cpu_s is not None]
    idle = max(0.0, seconds * len(rows) - sum(totals))
    lines.append(_line("all", totals, idle, sum(cpu) if cpu else None, frames))
    rates = [
        f"{stage.value} {work[stage] * frames / total / 1e9:,.1f}"
        for stage, total in zip(Stage, totals, strict=True)
        if work.get(stage) and total > 0
    ]
    if rates:
        lines.append(f"products, GFLOP/s while a stage was busy: {', '.join(rates)}")
    if cpu:
        lines.append(f"the cores were busy {sum(cpu) / (seconds * cores):.0%} of the time with this training")
    return "\n".join(lines)


def _line(name: str, busy_s: Sequence[float], idle_s: float, cpu_s: float | None, frames: int) -> str:
    cells = [f"{1e6 * value / frames:12.1f}" for value in [*busy_s, idle_s]]
    cells.append(f"{1e6 * cpu_s / frames:12.1f}" if cpu_s is not None else f"{'-':>12}")
    return f"{name:24}" + "".join(cells)


class Profiler:
    """Remembers the counters at `begin` and tells what came since."""

    def __init__(
        self,
        sources: Sequence[Timed],
        frames: Callable[[], int],
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu_times: Callable[[Sequence[int]], dict[int, float]] | None = None,
        work: Mapping[Stage, float] = MappingProxyType({}),
    ) -> None:
        """`frames`: trained so far. `cpu_times` of pids (s). `work`: see `profile_table`."""
        self._work = work
        self._sources = sources
        self._frames = frames
        self._clock = clock
        self._cpu_times = cpu_times or process_cpu_times
        self._start: tuple[float, int, list[ProcessTimes], dict[int, float]] | None = None

    @property
    def has_begun(self) -> bool:
        return self._start is not None

    def begin(self) -> None:
        self._start = self._moment()

    def _moment(self) -> tuple[float, int, list[ProcessTimes], dict[int, float]]:
        times = merged([one for source in self._sources for one in source.process_times()])
        return self._clock(), self._frames(), times, self._cpu_times([one.pid for one in times])

    def report(self) -> str:
        """The table; one line that says why where there is none."""
        if self._start is None:
            return "no profile: the training ended before its first iterations"
        began, frames_before, times_before, cpu_before = self._start
        now, frames, times, cpu = self._moment()
        if frames <= frames_before:
            return "no profile: nothing was trained after its first iterations"
        rows = difference(times_before, times, cpu_before, cpu)
        made = frames - frames_before
        return profile_table(rows, frames=made, seconds=now - began, cores=usable_cpus(), work=self._work)


def process_cpu_times(pids: Sequence[int]) -> dict[int, float]:
    """Processor time of each process and of its descendants that are not listed themselves (s), from /proc.

    Descendants that have ended count through the parent that waited for them. Empty where there is no /proc.
    """
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    with suppress(OSError):
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with suppress(OSError, ValueError, IndexError):
                    # Behind the name, which may hold anything: state, parent, ..., user, system, waited-for times.
                    words = (folder / "stat").read_text().rpartition(")")[2].split()
                    parents[int(folder.name)] = int(words[1])
                    ticks[int(folder.name)] = sum(map(int, words[11:15]))
    totals = {pid: float(ticks[pid]) for pid in pids if pid in ticks}
    for pid, spent in ticks.items():
        owner = pid
        while owner not in totals and owner in parents:
            owner = parents[owner]
        if owner in totals and owner != pid:
            totals[owner] += spent
    per_second = os.sysconf("SC_CLK_TCK") if totals else 1
    return {pid: total / per_second for pid, total in totals.items()}
