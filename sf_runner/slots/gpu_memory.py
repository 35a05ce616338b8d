"""Who uses which GPU memory, and how much of what was promised to jobs has not been taken yet. Pure.

A job holds a promise of R MB on each of its GPUs. As it takes memory, V MB of that become visible in the
free memory that the driver reports, so only max(0, R - V) must still be kept free for it. Whatever the order
in which jobs start, grow and end, and however old the snapshot: what is given away never exceeds what there
is, as long as jobs keep to their R and strangers do not grow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sf_runner.slots.devices import GpuInfo, GpuProcess, GpuSnapshot
from sf_runner.slots.placement import Placement

STRANGER_MB = 1024
"""More than this in use by nobody who is listed means that somebody else computes there."""
_SLACK_MB = 256
_PEAK_MARGIN_PCT = 10
"""Peaks are seen once a second, so the true one is a little higher."""


@dataclass(frozen=True, kw_only=True)
class GpuUsage:
    """A snapshot's processes, sorted by whose they are."""

    jobs: Mapping[str, Mapping[str, int | None]] = field(default_factory=dict)
    """job -> GPU UUID -> MB; None: it runs there but the driver does not tell how much it uses."""
    others: Mapping[str, tuple[GpuProcess, ...]] = field(default_factory=dict)
    """GPU UUID -> processes that belong to no job of this run."""
    known: frozenset[str] = frozenset()
    """GPUs where every process is identified and tells its memory."""
    owners: Mapping[tuple[str, int], str] = field(default_factory=dict)
    """(GPU UUID, pid) -> job."""

    def used_by(self, job: str, gpu_uuid: str) -> int | None:
        """MB that `job` uses there; None: cannot be told."""
        return self.jobs.get(job, {}).get(gpu_uuid, 0) if gpu_uuid in self.known else None


def attribute(
    snapshot: GpuSnapshot, owner_of: Callable[[int], str | None], previous: GpuUsage | None = None
) -> GpuUsage:
    """Sort the processes by job. `owner_of(pid)` gives the job's key, or None for somebody else's process.

    A process that `previous` attributed to a job stays that job's while it is listed (or nothing is): one that
    is dying no longer tells whose it is, yet holds its memory.
    """
    before = previous.owners if previous else {}
    owners: dict[tuple[str, int], str] = {}
    jobs: dict[str, dict[str, int | None]] = {}
    others: dict[str, tuple[GpuProcess, ...]] = {}
    known = set()
    for gpu in snapshot.gpus:
        if gpu.processes is None:
            owners |= {key: job for key, job in before.items() if key[0] == gpu.uuid}
        strangers = []
        for process in gpu.processes or ():
            if process.pid is None:
                continue
            key = (gpu.uuid, process.pid)
            owner = before.get(key) or owner_of(process.pid)
            if owner is None:
                strangers.append(process)
                continue
            owners[key] = owner
            used = jobs.setdefault(owner, {})
            total = used.get(gpu.uuid, 0)
            used[gpu.uuid] = None if total is None or process.memory_mb is None else total + process.memory_mb
        others[gpu.uuid] = tuple(strangers)
        if _all_told(gpu):
            known.add(gpu.uuid)
    return GpuUsage(jobs=jobs, others=others, known=frozenset(known), owners=owners)


def _all_told(gpu: GpuInfo) -> bool:
    return gpu.processes is not None and all(p.pid is not None and p.memory_mb is not None for p in gpu.processes)


@dataclass(frozen=True, kw_only=True)
class LearnedPeaks:
    """Largest GPU memory seen per configuration (a key of the caller's choice), on any one GPU."""

    peaks_mb: Mapping[str, int] = field(default_factory=dict)

    def observed(self, config: str, memory_mb: int) -> LearnedPeaks:
        """With one more observation; returns itself when it is no new peak."""
        if memory_mb <= self.peaks_mb.get(config, 0):
            return self
        return LearnedPeaks(peaks_mb={**self.peaks_mb, config: memory_mb})

    def need_mb(self, config: str | None, *, asked_mb: int = 0) -> int:
        """What to reserve for a job of that configuration: what was asked for, or its peak if that is more."""
        peak = self.peaks_mb.get(config, 0) if config else 0
        return asked_mb if asked_mb >= peak else math.ceil(peak * (100 + _PEAK_MARGIN_PCT) / 100)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What one attempt was promised on one GPU and what it uses of it."""

    promised_mb: int
    used_mb: int | None
    others_mb: int | None
    """Memory in use there that was nobody's here when the attempt was placed."""


def claims_on(gpu_uuid: str, holders: Iterable[tuple[str, Placement, bool]], usage: GpuUsage | None) -> list[Claim]:
    """The claims of (job, placement, ended) on one GPU."""
    holders = list(holders)
    # While the memory of a job's last attempt drains, what its new attempt uses cannot be told apart from it.
    draining = {job for job, _, ended in holders if ended}
    claims = []
    for job, placement, ended in holders:
        used = usage.used_by(job, gpu_uuid) if usage else None
        if used is not None and not ended and job in draining:
            used = 0
        at = placement.gpu_uuids.index(gpu_uuid)
        others = placement.others_mb[at] if at < len(placement.others_mb) else None
        claims.append(Claim(promised_mb=placement.memory_mb, used_mb=used, others_mb=others))
    return claims


def others_mb(gpu: GpuInfo, claims: Sequence[Claim]) -> int | None:
    """Memory in use that is no job's: measured where jobs' memory can be told, else as when they started."""
    used = gpu.memory_used_mb
    if used is None:
        return None
    told = [c.used_mb for c in claims if c.used_mb is not None]
    if len(told) == len(claims):
        return max(0, used - sum(told))
    return min((c.others_mb for c in claims if c.others_mb is not None), default=None)


def pending_mb(gpu: GpuInfo, claims: Sequence[Claim]) -> int:
    """How much of what was promised is not yet part of the memory in use."""
    if all(c.used_mb is not None for c in claims):
        return sum(max(0, c.promised_mb - (c.used_mb or 0)) for c in claims)
    promised = sum(c.promised_mb for c in claims)
    baseline = others_mb(gpu, claims)
    if gpu.memory_used_mb is None or baseline is None or any(c.promised_mb == 0 for c in claims):
        return promised  # nothing can be said about what they took: as if it were nothing
    return max(0, promised - max(0, gpu.memory_used_mb - baseline))


def room_mb(gpu: GpuInfo, claims: Sequence[Claim]) -> int | None:
    """Memory that can still be promised; None: the driver does not tell how much there is."""
    if gpu.memory_free_mb is not None:
        return gpu.memory_free_mb - pending_mb(gpu, claims)
    if gpu.memory_total_mb is not None:
        taken = sum(max(c.promised_mb, c.used_mb or 0) for c in claims)
        return gpu.memory_total_mb - taken
    return None


def vacated_mb(gpu: GpuInfo, claims: Sequence[Claim]) -> int | None:
    """Memory that could be promised if all these claims were given back; None: the driver does not tell how much there
    is. Where it does not tell whose memory is in use, what exceeds the promises is taken for a stranger's."""
    if gpu.usable_mb is None or gpu.memory_used_mb is None:
        return gpu.memory_total_mb
    others = others_mb(gpu, claims) or 0
    if any(c.used_mb is None for c in claims) and all(c.promised_mb for c in claims):
        others = max(others, gpu.memory_used_mb - sum(c.promised_mb for c in claims))
    return gpu.usable_mb - others


def strangers_on(gpu: GpuInfo, claims: Sequence[Claim], usage: GpuUsage | None) -> str | None:
    """Who else computes on the GPU, for people; None: nobody."""
    listed = usage.others.get(gpu.uuid, ()) if usage else ()
    if not claims:  # nobody is ours
        listed = gpu.processes or ()
    if listed:
        pids = ", ".join(str(p.pid) for p in listed if p.pid is not None)
        return f"process {pids}" if pids else f"{len(listed)} processes"
    hidden = others_mb(gpu, claims) or 0
    if hidden > STRANGER_MB:
        return f"{hidden} MB in use by processes that cannot be seen"
    return None


def is_drained(placement: Placement, job: str, snapshot: GpuSnapshot, usage: GpuUsage) -> bool | None:
    """Whether an ended attempt's memory is back; None: it cannot be told."""
    gpus = snapshot.by_uuid()
    answer: bool | None = True
    for at, uuid in enumerate(placement.gpu_uuids):
        gpu = gpus.get(uuid)
        if gpu is None or gpu.lost:
            continue
        if uuid in usage.jobs.get(job, {}):
            return False
        if gpu.processes is not None and all(p.pid is not None for p in gpu.processes):
            continue
        before = placement.others_mb[at] if at < len(placement.others_mb) else None
        if gpu.memory_used_mb is None or before is None or gpu.memory_used_mb > before + _SLACK_MB:
            answer = None
    return answer
