"""The CPUs this process may use, and the choice of a set of them for one job."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Core:
    """A physical core: those of its hardware threads that this process may use."""

    cpus: tuple[int, ...]
    numa_node: int = 0


@dataclass(frozen=True, kw_only=True)
class CpuTopology:
    """The usable part of the machine: affinity mask and cgroup quota already taken into account."""

    cores: tuple[Core, ...]
    quota_cpus: float | None = None
    """CPUs' worth of time that the cgroup allows; None: no limit."""
    can_bind: bool = True
    """False where the system has no affinity masks (macOS): jobs are counted, not bound."""

    @property
    def num_cpus(self) -> int:
        """CPUs that can be handed out at once: logical CPUs, cut by the quota, at least 1."""
        raise NotImplementedError


def read_topology(*, root: Path = Path("/"), affinity: Collection[int] | None = None) -> CpuTopology:
    """Read it from the system; `root` and `affinity` are for tests."""
    raise NotImplementedError


def pick_cpus(
    topology: CpuTopology, free: Collection[int], count: int, *, near: int | None = None
) -> tuple[int, ...] | None:
    """`count` CPUs out of `free`, or None: whole physical cores first, on one NUMA node (`near`) if possible."""
    raise NotImplementedError
