"""How busy this machine is, from /proc; and whose work is on its GPUs."""

from __future__ import annotations

import os
from dataclasses import dataclass

from sf_runner.linux.process_tools import owner_of
from sf_runner.slots.devices import GpuInfo, GpuSnapshot
from sf_runner.slots.gpu_memory import GpuUsage, attribute, claims_on, others_mb
from sf_runner.slots.placement import Placement
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import ACTIVE, running_of

_REFRESH_S = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """`cpu`: busy share of all cores since the last look, 0 to 1; None before the second look. Memory in MB."""

    cores: int
    cpu: float | None
    load: float | None
    memory_used_mb: float | None
    memory_total_mb: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuRow:
    """One GPU (or MIG instance). None: the driver does not tell. `others`: processes that are none of this run's."""

    label: str
    name: str
    utilization: float | None
    used_mb: int | None
    total_mb: int | None
    temperature_c: int | None
    jobs: int
    others: int
    others_mb: int | None
    lost: bool = False


class MachineProbe:
    """Reads /proc at most once a second."""

    def __init__(self) -> None:
        self._read_at = float("-inf")
        self._times: tuple[int, int] | None = None
        self._last: Machine | None = None

    def read(self, now: float) -> Machine | None:
        """None where there is no /proc."""
        if now - self._read_at >= _REFRESH_S:
            self._read_at = now
            self._last = self._read()
        return self._last

    def _read(self) -> Machine | None:
        times = _cpu_times()
        if times is None:
            return None
        cpu = None
        if self._times is not None and times[1] > self._times[1]:
            cpu = (times[0] - self._times[0]) / (times[1] - self._times[1])
        elif self._last is not None:
            cpu = self._last.cpu
        self._times = times
        total, available = _memory_mb()
        used = None if total is None or available is None else total - available
        try:
            load = os.getloadavg()[0]
        except OSError:
            load = None
        return Machine(cores=os.cpu_count() or 1, cpu=cpu, load=load, memory_used_mb=used, memory_total_mb=total)


def _cpu_times() -> tuple[int, int] | None:
    """(busy, all) clock ticks since boot."""
    try:
        with open("/proc/stat", "rb") as file:  # noqa: PTH123
            ticks = [int(value) for value in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def _memory_mb() -> tuple[float | None, float | None]:
    """(total, available)"""
    found: dict[bytes, float] = {}
    try:
        with open("/proc/meminfo", "rb") as file:  # noqa: PTH123
            for line in file:
                name, _, rest = line.partition(b":")
                if name in (b"MemTotal", b"MemAvailable"):
                    found[name] = int(rest.split()[0]) / 1024
                    if len(found) == 2:
                        break
    except (OSError, ValueError):
        return None, None
    return found.get(b"MemTotal"), found.get(b"MemAvailable")


class GpuRows:
    """Rows of the GPU panel; worked out once per snapshot."""

    def __init__(self) -> None:
        self._snapshot: GpuSnapshot | None = None
        self._version = -1
        self._usage: GpuUsage | None = None
        self._rows: tuple[GpuRow, ...] = ()

    def rows(self, snapshot: GpuSnapshot, state: RunState, version: int) -> tuple[GpuRow, ...]:
        """`version` changes with the state."""
        if snapshot is self._snapshot and version == self._version:
            return self._rows
        if snapshot is not self._snapshot:
            sessions = _sessions(state)
            self._usage = attribute(snapshot, lambda pid: owner_of(pid, sessions), self._usage)
        self._snapshot, self._version = snapshot, version
        assert self._usage is not None
        placements = [
            (job, Placement.from_json(record.state.placement), False)
            for job, record in state.active.items()
            if isinstance(record.state, ACTIVE)
        ]
        self._rows = tuple(gpu_row(gpu, placements, self._usage) for gpu in snapshot.gpus)
        return self._rows


def gpu_row(gpu: GpuInfo, placements: list[tuple[str, Placement, bool]], usage: GpuUsage) -> GpuRow:
    """One device and whose work is on it. `placements`: (job, where it runs, whether it has ended)."""
    claims = claims_on(gpu.uuid, [holder for holder in placements if gpu.uuid in holder[1].gpu_uuids], usage)
    return GpuRow(
        label=gpu.label,
        name=gpu.name.removeprefix("NVIDIA ").removeprefix("GeForce "),
        utilization=None if gpu.utilization_pct is None else gpu.utilization_pct / 100,
        used_mb=gpu.memory_used_mb,
        total_mb=gpu.memory_total_mb,
        temperature_c=gpu.temperature_c,
        jobs=len(claims),
        others=len(usage.others.get(gpu.uuid, ())),
        others_mb=others_mb(gpu, claims),
        lost=gpu.lost,
    )


def _sessions(state: RunState) -> dict[int, str]:
    """The pid of each running job's main process, which leads a session of its own."""
    found = {}
    for job, record in state.active.items():
        running = running_of(record.state)
        if running is not None and "pid" in running.handle:
            found[int(running.handle["pid"])] = job
    return found
