"""How many CPUs this process may use: affinity, and the quota of the container or batch job that it runs in."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def usable_cpus(root: Path = Path("/")) -> int:
    """CPUs worth of time that this process can have at once, at least 1.

    Those that it may run on (not the machine's count), cut by the CPU quota of its cgroups: `docker run --cpus=2` on 64
    cores gives 2. With more processes or threads than that, the kernel stops all of them for a part of every period.
    `root` is for tests.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(root)
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """CPUs that the cgroups of this process allow, the least of all levels; None where nothing limits it.

    Both versions of cgroups: `cpu.max` of version 2, `cpu.cfs_quota_us` over `cpu.cfs_period_us` of version 1.
    """
    quotas: list[float] = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        with suppress(ValueError):  # a line of another form
            number, controllers, path = line.split(":", 2)
            if number == "0":
                quotas += _of_all_levels(root / "sys/fs/cgroup", path, _version_2)
            elif "cpu" in controllers.split(","):
                quotas += _of_all_levels(_mount_of_version_1(root, controllers), path, _version_1)
    return min(quotas, default=None)


def _of_all_levels(mount: Path, path: str, read: Callable[[Path], float | None]) -> list[float]:
    """The quotas of a cgroup and of those around it. Inside a container the path may be that of the host, where nothing
    is found; the container's own quota is at the mount then."""
    folder = mount / path.lstrip("/")
    levels = [folder, *folder.parents]
    found = (read(level) for level in levels[: levels.index(mount) + 1])
    return [quota for quota in found if quota is not None]


def _mount_of_version_1(root: Path, controllers: str) -> Path:
    together = root / "sys/fs/cgroup" / controllers
    return together if together.is_dir() else root / "sys/fs/cgroup/cpu"


def _version_2(folder: Path) -> float | None:
    words = _read(folder / "cpu.max").split()
    return _ratio(words[0], words[1]) if len(words) == 2 else None


def _version_1(folder: Path) -> float | None:
    return _ratio(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> float | None:
    """None for `max`, -1 and what is no number: no limit."""
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(quota) and int(period) else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
