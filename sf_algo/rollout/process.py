"""The worker as a process: its place on the machine, and its end when the main process is gone."""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path

from sf_algo.envs.factory import remove_own_leftovers
from sf_algo.rollout.settings import WorkerSettings

TRACE_SIGNAL = signal.SIGUSR2
"""Makes a worker write the stack of all its threads to its trace file, even while it hangs."""

_SINGLE_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def single_thread_environment() -> dict[str, str]:
    """Environment variables that keep numerical libraries to one thread; to be set before they load."""
    return dict.fromkeys(_SINGLE_THREAD_VARIABLES, "1")


def prepare_process(settings: WorkerSettings) -> None:
    """Signals, stack traces, niceness and cores of this worker. Ctrl-C is the main process's business."""
    for fd in settings.inherited_fds():
        os.set_inheritable(fd, False)  # an engine that held our pipes open would hide our death
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable(file=settings.trace_fd)
    faulthandler.register(TRACE_SIGNAL, file=settings.trace_fd, all_threads=True)
    if settings.niceness:
        with suppress(OSError):  # a negative niceness needs privileges
            os.nice(settings.niceness)
    if settings.cores and hasattr(os, "sched_setaffinity"):
        with suppress(OSError):
            os.sched_setaffinity(0, settings.cores)


def die_with_parent(lifeline_fd: int) -> None:
    """Starts a thread that ends this process, and all that it has started, when the main process is gone.

    The end of file on the lifeline tells it, whatever way the main process died. Engines that environments
    started would go on for ever without us, so they are killed first.
    """

    def watch() -> None:
        with suppress(OSError):
            os.read(lifeline_fd, 1)
        end_process_tree()

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def end_process_tree() -> None:
    """Kills every descendant, then the own process group. Does not return."""
    for pid in descendants(os.getpid()):
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    with suppress(Exception):  # nothing may keep us from ending
        remove_own_leftovers()
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
