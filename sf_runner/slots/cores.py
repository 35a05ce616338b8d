"""The CPUs this process may use, and the choice of a set of them for one job."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
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

    @cached_property
    def cpus(self) -> frozenset[int]:
        """All logical CPUs that may be used."""
        return frozenset(cpu for core in self.cores for cpu in core.cpus)

    @property
    def num_cpus(self) -> int:
        """CPUs that can be handed out at once: logical CPUs, cut by the quota, at least 1."""
        count = len(self.cpus)
        return max(1, count if self.quota_cpus is None else min(count, int(self.quota_cpus)))

    @cached_property
    def nodes(self) -> dict[int, tuple[Core, ...]]:
        """The cores of each NUMA node, in order of the nodes."""
        numbers = sorted({core.numa_node for core in self.cores})
        return {n: tuple(core for core in self.cores if core.numa_node == n) for n in numbers}


def pick_cpus(
    topology: CpuTopology, free: Collection[int], count: int, *, near: int | None = None
) -> tuple[int, ...] | None:
    """`count` CPUs out of `free`, ascending; None if there are too few.

    All on one NUMA node where that can be: `near` if it has enough, else the one with most free. Whole
    physical cores first, so that two jobs share a core only where an odd count leaves a thread over; that
    thread comes from a core already begun.
    """
    if count > len(free):
        return None
    room = {node: sum(cpu in free for core in cores for cpu in core.cpus) for node, cores in topology.nodes.items()}
    order = sorted(room, key=lambda node: (room[node] < count, node != near, -room[node], node))
    picked: list[int] = []
    for node in order:
        picked += _from_cores(topology.nodes[node], free, count - len(picked))
        if len(picked) == count:
            return tuple(sorted(picked))
    return None  # `free` names CPUs outside the topology


def _from_cores(cores: Iterable[Core], free: Collection[int], count: int) -> list[int]:
    """Up to `count` free CPUs of these cores."""
    picked: list[int] = []
    begun: list[list[int]] = []
    whole: list[tuple[int, ...]] = []
    for core in cores:
        available = [cpu for cpu in core.cpus if cpu in free]
        if len(available) < len(core.cpus):
            begun.append(available)
        elif len(picked) + len(available) <= count:
            picked += available
        else:
            whole.append(core.cpus)
    for threads in sorted(begun, key=len) + [list(cpus) for cpus in whole]:
        picked += threads[: count - len(picked)]
    return picked


# Reading the system


def read_topology(*, root: Path = Path("/"), affinity: Collection[int] | None = None) -> CpuTopology:
    """Read it from the system; `root` and `affinity` are for tests.

    What cannot be read is assumed to be simple: one thread per core, one NUMA node, no quota.
    """
    if affinity is None:
        affinity = os.sched_getaffinity(0)
    node_of = _numa_nodes(root)
    cores: dict[tuple[int, ...], Core] = {}
    for cpu in sorted(affinity):
        threads = parse_cpu_list(_read(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"))
        usable = tuple(sorted({cpu, *threads} & set(affinity)))
        cores.setdefault(usable, Core(cpus=usable, numa_node=node_of.get(cpu, 0)))
    return CpuTopology(cores=tuple(cores.values()), quota_cpus=read_quota(root))


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """The kernel's notation: `0-3,8`."""
    cpus: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return tuple(cpus)


def read_quota(root: Path = Path("/")) -> float | None:
    """CPUs that the cgroups (version 2 or 1) of this process allow: the least of all levels."""
    quotas = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0":
            base, read = root / "sys/fs/cgroup", _quota_v2
        elif "cpu" in controllers.split(","):
            base, read = _v1_mount(root, controllers), _quota_v1
        else:
            continue
        # In a container the path may be the host's: its own limit is then at the root of the mount.
        folder = base / path.lstrip("/")
        levels = [folder, *folder.parents]
        quotas += [quota for level in levels[: levels.index(base) + 1] if (quota := read(level)) is not None]
    return min(quotas, default=None)


def _v1_mount(root: Path, controllers: str) -> Path:
    combined = root / "sys/fs/cgroup" / controllers
    return combined if combined.is_dir() else root / "sys/fs/cgroup/cpu"


def _quota_v2(folder: Path) -> float | None:
    fields = _read(folder / "cpu.max").split()
    return _ratio(*fields) if len(fields) == 2 else None


def _quota_v1(folder: Path) -> float | None:
    return _ratio(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> float | None:
    """None for `max`, -1 and what is no number: no limit."""
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(quota) and int(period) else None


def _numa_nodes(root: Path) -> dict[int, int]:
    nodes = {}
    for folder in (root / "sys/devices/system/node").glob("node[0-9]*"):
        for cpu in parse_cpu_list(_read(folder / "cpulist")):
            nodes[cpu] = int(folder.name[len("node") :])
    return nodes


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
