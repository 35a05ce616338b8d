"""Being run soon after waking up, where all CPUs are busy with jobs. Standard library only."""

from __future__ import annotations

import ctypes
import os
import platform
import struct

_SYS_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
_SCHED_ATTR = struct.Struct("=IIQiIQQQII")  # size, policy, flags, nice, priority, slice, and what is for others
_FLAG_RESET_ON_FORK = 1
_SLICE_NS = 100_000
"""The shortest that Linux takes."""


def ask_for_short_time_slices() -> bool:
    """Have this thread run as soon as it wakes up: it never works for long, and a slot is empty until it has.

    It asks the kernel for short time slices, as any process may. It gets no more of a CPU than before, but sooner: else
    it waits behind the program it has just started, for a usual slice of some milliseconds. What it starts has usual
    slices again. Linux before 6.12 takes note and changes nothing.

    False where it stays as it is: another system, or somebody chose how it is scheduled. A negative niceness would not
    be inherited by what it starts.
    """
    number = _SYS_SCHED_SETATTR.get(platform.machine()) if struct.calcsize("P") == 8 else None
    try:
        nice = os.getpriority(os.PRIO_PROCESS, 0)
        if number is None or nice < 0 or os.sched_getscheduler(0) != os.SCHED_OTHER:
            return False
        attributes = _SCHED_ATTR.pack(
            _SCHED_ATTR.size, os.SCHED_OTHER, _FLAG_RESET_ON_FORK, nice, 0, _SLICE_NS, 0, 0, 0, 0
        )
        return bool(ctypes.CDLL(None, use_errno=True).syscall(number, 0, attributes, 0) == 0)
    except (OSError, AttributeError):
        return False
