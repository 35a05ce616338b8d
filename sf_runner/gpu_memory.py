"""Who uses which GPU memory, and how much of what was promised to jobs has not been taken yet. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sf_runner.devices import GpuProcess, GpuSnapshot


@dataclass(frozen=True, kw_only=True)
class GpuUsage:
    """A snapshot's processes, sorted by whose they are."""

    jobs: Mapping[str, Mapping[str, int | None]] = field(default_factory=dict)
    """job -> GPU UUID -> MB; None: it runs there but the driver does not tell how much it uses."""
    others: Mapping[str, tuple[GpuProcess, ...]] = field(default_factory=dict)
    """GPU UUID -> processes that belong to no job of this run."""


def attribute(snapshot: GpuSnapshot, owner_of: Callable[[int], str | None]) -> GpuUsage:
    """Sort the processes by job. `owner_of(pid)` gives the job's key, or None for somebody else's process."""
    raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class LearnedPeaks:
    """Largest GPU memory seen per configuration (a key of the caller's choice), on any one GPU."""

    peaks_mb: Mapping[str, int] = field(default_factory=dict)

    def observed(self, config: str, memory_mb: int) -> LearnedPeaks:
        """With one more observation; returns itself when it is no new peak."""
        raise NotImplementedError
