"""How numerical libraries use threads and memory; to be settled before torch is imported, so this module does not."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Collection, MutableMapping
from contextlib import suppress
from typing import NoReturn

from sf_algo.cpus import cpu_quota, usable_cpus


def prepare_threads(environment: MutableMapping[str, str] = os.environ) -> None:
    """Lets idle OpenMP threads sleep instead of spin, and keeps numerical libraries within the CPUs that a container
    allows, unless the user has chosen.

    Spinning threads gain a little on an idle machine. Where cores are shared with rollout workers or other
    experiments they take the time that the others need: measured on 2 busy cores, a training was 7 times
    slower.
    """
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    environment.setdefault("KMP_BLOCKTIME", "0")
    if cpu_quota() is not None:  # of which these libraries know nothing
        environment.setdefault("OMP_NUM_THREADS", str(usable_cpus()))


_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # glibc's malloc.h
_KEPT_BYTES = 2**31 - 1
_LARGEST_FROM_HEAP = 32 << 20  # more is refused


def keep_freed_memory() -> None:
    """Has malloc keep what is freed instead of giving it back to the kernel.

    A learner on a CPU frees and takes hundreds of megabytes in every iteration, always the same ones. Pages that come
    from the kernel are zeroed first, one fault at a time: measured for doom_benchmark, 14 faults and 29 us of 650 per
    sample. Nothing happens where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_FROM_HEAP)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TOP_PAD, _LARGEST_FROM_HEAP)


def leave(code: int) -> NoReturn:
    """Ends the process of a command. Threads that the user's code has left behind do not keep it: the interpreter would
    wait for them for ever."""
    end_where_threads_stay(code, {threading.main_thread()})
    sys.exit(code)


def end_where_threads_stay(code: int, own: Collection[threading.Thread]) -> None:
    """Ends the process with that exit code where threads that the interpreter would wait for are left beside its `own`.
    Returns where there are none."""
    if all(thread.daemon or thread in own for thread in threading.enumerate()):
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)
