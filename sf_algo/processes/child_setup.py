"""What a child process of the trainer does for itself: signals, niceness, cores, and its end with the main process."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

TRACE_SIGNAL = signal.SIGUSR2
"""Makes a child write the stack of all its threads to its trace file, even while it hangs."""

_BROKEN_PIPE_PATIENCE_S = 5.0
_PR_SET_NAME = 15  # linux/prctl.h

_SINGLE_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def single_thread_environment() -> dict[str, str]:
    """Environment variables that keep numerical libraries to one thread. Set them before these libraries load."""
    return dict.fromkeys(_SINGLE_THREAD_VARIABLES, "1")


def leave_stopping_to_parent() -> None:
    """Pass over Ctrl-C and TERM. The main process gets them too, saves with the help of its children, and ends them.

    TERM reaches every process where a cluster or the runner ends a whole tree. What this process starts or forks is
    ended by TERM as usual.
    """
    own = os.getpid()

    def passed_over(number: int, frame: object) -> None:
        if os.getpid() != own:  # a fork of an environment's
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, passed_over)


def prepare_process(
    *, inherited_fds: Iterable[int], trace_fd: int, niceness: int = 0, cores: Sequence[int] = ()
) -> None:
    """Give this process a group of its own, pass over signals that ask for an end, and set up stack traces.

    inherited_fds: descriptors that programs started from here must not inherit. trace_fd: where stack traces go.
    niceness: added to that of the parent. cores: CPUs to run on; empty: any.
    """
    with suppress(OSError):
        os.setpgid(0, 0)
    for fd in inherited_fds:
        os.set_inheritable(fd, False)  # an engine that held our pipes open would hide our death
    leave_stopping_to_parent()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    faulthandler.enable(file=trace_fd)
    faulthandler.register(TRACE_SIGNAL, file=trace_fd, all_threads=True)
    if niceness:
        with suppress(OSError):  # a negative niceness needs privileges
            os.nice(niceness)
    if cores and hasattr(os, "sched_setaffinity"):
        with suppress(OSError):
            os.sched_setaffinity(0, cores)


def let_wakers_finish() -> None:
    """Schedule this process, and what it starts, as batch work: when woken, it does not interrupt the process that woke
    it.

    A game engine and its worker share a core and call each other through a condition variable. The caller still holds
    its lock when it wakes the other process. If that process interrupts the caller, it runs into the lock and sleeps
    again: four switches for every tic of a game instead of two, 3 % of all processor time of a training
    (docs/performance.md). A scheduling policy that somebody chose (`chrt --idle 0`) stays.
    """
    if hasattr(os, "SCHED_BATCH"):
        with suppress(OSError):
            if os.sched_getscheduler(0) == os.SCHED_OTHER:
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def name_process(name: str) -> None:
    """What `top` and `ps -o comm` call this process: at most 15 characters. Nothing happens but on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


@contextmanager
def sigint_blocked() -> Iterator[None]:
    """Block SIGINT meanwhile: a child started now does not get Ctrl-C before it has left our process group."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def dying_with_parent(lifeline_fd: int, clean_up: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Meanwhile, end this process and all that it has started as soon as the main process is gone.

    A thread waits for the end of file on `lifeline_fd`, which comes however the main process died. Game engines would
    go on for ever, so they are killed, too. `clean_up` runs before and after that.
    """

    def watch() -> None:
        with suppress(OSError):
            os.read(lifeline_fd, 1)
        end_process_tree(clean_up)

    thread = threading.Thread(target=watch, name="lifeline", daemon=True)
    thread.start()
    patience_s = 0.0
    try:
        yield
    except BaseException:  # most likely a pipe to the main process broke: one of many that close as it dies
        patience_s = _BROKEN_PIPE_PATIENCE_S
        raise
    finally:
        # If this process ended now, its thread would end before it has cleaned up.
        if select.select([lifeline_fd], [], [], patience_s)[0]:
            thread.join()


def end_process_tree(clean_up: Callable[[], object]) -> None:
    """Kill all descendants, call `clean_up`, then kill the own process group. Does not return.

    `clean_up` is also called before anything is killed: a library whose engine is killed during its start may crash
    this process.
    """
    for _ in range(2):  # another thread may have noticed the first deaths and started an engine anew
        with suppress(Exception):  # nothing may keep us from ending
            clean_up()
        for pid in descendants(os.getpid()):
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
    with suppress(Exception):
        clean_up()
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def descendants(pid: int) -> list[int]:
    """Children of `pid`, their children and so on, as /proc knows them; empty where there is no /proc."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError, ValueError):
            for child in map(int, path.read_text().split()):
                found += [child, *descendants(child)]
    return found
