"""Whether the process ids that the GPU driver reports mean anything here.

Inside a container the driver may report the host's ids, or hide every process: attributing memory by them
would take one's own jobs for somebody else's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from sf_runner.slots.devices import GpuInfo, GpuProcess
from sf_runner.slots.troubles import TroubleLog

_FIRST_PID_NAMESPACE = "pid:[4026531836]"
"""The kernel's fixed inode number of the first namespace (include/linux/proc_ns.h)."""
_HIDDEN_PROCESS_MB = 256
"""More in use than this while no process is listed: the processes are hidden from us."""

_HOST_IDS = (
    "The GPU driver reports process ids of the host, not of this container: whose GPU memory it is cannot be "
    "told, so it is estimated from how much is in use."
)
_HIDDEN = (
    "The processes on the GPUs are hidden from this container: whose GPU memory it is cannot be told, so it is "
    "estimated from how much is in use."
)


def in_pid_namespace() -> bool:
    """Whether this process lives in a process-id namespace of its own, as in most containers."""
    try:
        return os.readlink("/proc/self/ns/pid") != _FIRST_PID_NAMESPACE  # noqa: PTH115 - not a path
    except OSError:
        return False


def pid_exists(pid: int) -> bool:
    """Whether there is such a process, also one of another user or hidden from /proc."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def is_mps_server(pid: int) -> bool:
    """The MPS server computes on behalf of its clients, which are listed themselves."""
    try:
        return Path(f"/proc/{pid}/comm").read_bytes().startswith(b"nvidia-cuda-mps")
    except OSError:
        return False


class PidTrust:
    """Takes ids out of snapshots once it is clear that they are another namespace's."""

    def __init__(
        self,
        *,
        contained: bool | None = None,
        exists: Callable[[int], bool] = pid_exists,
    ) -> None:
        self._contained = in_pid_namespace() if contained is None else contained
        self._exists = exists
        self._missing_before: frozenset[int] = frozenset()
        self._foreign_ids = False

    def checked(self, gpus: Iterable[GpuInfo], troubles: TroubleLog) -> list[GpuInfo]:
        """The devices, with ids and process lists that mean nothing replaced by None."""
        gpus = list(gpus)
        if not self._contained:
            return gpus
        listed = {p.pid for gpu in gpus for p in gpu.processes or () if p.pid is not None}
        missing = frozenset(pid for pid in listed if not self._exists(pid))
        # Twice in a row: one that just died may still be listed.
        self._foreign_ids = self._foreign_ids or bool(missing & self._missing_before)
        self._missing_before = missing
        return [self._check(gpu, troubles) for gpu in gpus]

    def _check(self, gpu: GpuInfo, troubles: TroubleLog) -> GpuInfo:
        if self._foreign_ids and gpu.processes:
            troubles.note("pids", _HOST_IDS)
            return replace(gpu, processes=tuple(GpuProcess(pid=None, memory_mb=p.memory_mb) for p in gpu.processes))
        if gpu.processes == () and (gpu.memory_used_mb or 0) > _HIDDEN_PROCESS_MB:
            troubles.note("pids", _HIDDEN)
            return replace(gpu, processes=None)
        return gpu
