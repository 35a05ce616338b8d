"""Keeps the table of free slots current: polls the GPUs, watches freed memory, learns what jobs need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from sf_runner.linux.process_tools import owner_of
from sf_runner.slots.devices import GpuSnapshot
from sf_runner.slots.gpu_memory import GpuUsage, LearnedPeaks, attribute
from sf_runner.slots.placement import Placement
from sf_runner.slots.probe import GpuProbe
from sf_runner.slots.table import SlotSetup, SlotTable, memory_is_back, on_lost_gpu
from sf_runner.slots.types import Occupant
from sf_runner.state.jobs import JobRecord

_REFRESH_S = 1.0


class SlotManager:
    """Owns the occupants. Without GPUs it never polls anything."""

    def __init__(
        self,
        setup: SlotSetup,
        probe: GpuProbe | None,
        snapshot: GpuSnapshot,
        sessions: Callable[[], Mapping[int, str]],
        peaks: LearnedPeaks | None = None,
    ) -> None:
        self._setup = setup
        self._probe = probe if setup.gpu_uuids else None
        self._sessions = sessions
        self._occupants: dict[str, Occupant] = {}
        self._freed: dict[str, tuple[Occupant, float]] = {}
        self._usage = GpuUsage()
        self._job_peaks: dict[str, int] = {}
        self._configs: dict[str, str] = {}
        self._refreshed_at = float("-inf")
        self.snapshot = snapshot
        self.peaks = peaks or LearnedPeaks()
        self.table: SlotTable = setup.table(snapshot)

    def restore(self, active: Mapping[str, JobRecord]) -> None:
        """Take the slots of attempts that an earlier runner placed."""
        for job, record in active.items():
            state = record.state
            placement = Placement.from_json(getattr(state, "placement", {}))
            self._occupants[job] = Occupant(job=job, placement=placement)
            self._configs[job] = record.config
        self._rebuild()

    def taken(self, record: JobRecord, placement: Placement, table: SlotTable) -> None:
        """An attempt got a slot; `table` is the one in which it is taken."""
        self._occupants[record.job_id] = Occupant(job=record.job_id, placement=placement)
        self._configs[record.job_id] = record.config
        self.table = table

    def freed(self, job: str, now: float) -> int | None:
        """An attempt is over. Cores are free at once, a GPU when its memory is back. Peak GPU memory in MB.

        `now`: of the steady clock, here and in `refresh`."""
        occupant = self._occupants.pop(job, None)
        peak = self._job_peaks.pop(job, None)
        config = self._configs.pop(job, "")
        if peak is not None and config:
            self.peaks = self.peaks.observed(config, peak)
        if occupant is None:
            return peak
        if self._probe is not None and occupant.placement.gpu_uuids:
            # Keyed apart: the same job may already be running again while its old memory drains.
            self._freed[f"{job}#{now}"] = (replace(occupant, ended=True), now)
            self._refreshed_at = float("-inf")
        else:
            self.table = self.table.release(occupant.placement)
        return peak

    def refresh(self, now: float) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Look at the GPUs, at most once a second. (new warnings, jobs whose GPU was lost)"""
        if self._probe is None or now - self._refreshed_at < _REFRESH_S:
            return (), ()
        self._refreshed_at = now
        self.snapshot = self._probe.snapshot()
        sessions = self._sessions()
        self._usage = attribute(self.snapshot, lambda pid: owner_of(pid, sessions), self._usage)
        self._learn()
        for key, (occupant, since) in list(self._freed.items()):
            back = memory_is_back(occupant, self.snapshot, self._usage, waited_s=now - since, policy=self._setup.policy)
            if back:
                del self._freed[key]
        self._rebuild()
        lost = on_lost_gpu(tuple(self._occupants.values()), self.snapshot)
        return tuple(w.message for w in self.snapshot.warnings), tuple(o.job for o in lost)

    @property
    def waiting_for_memory(self) -> bool:
        """Whether a freed slot is held back until its memory returned."""
        return bool(self._freed)

    def _learn(self) -> None:
        for job, memory in self._usage.jobs.items():
            used = max((mb for mb in memory.values() if mb is not None), default=None)
            if used is not None and used > self._job_peaks.get(job, 0):
                self._job_peaks[job] = used
                if config := self._configs.get(job):
                    self.peaks = self.peaks.observed(config, used)

    def _rebuild(self) -> None:
        occupants = [*self._occupants.values(), *(occupant for occupant, _ in self._freed.values())]
        self.table = self._setup.table(self.snapshot, occupants, usage=self._usage, peaks=self.peaks)
