"""A tiny parent for a program with a full-screen UI: gives the terminal back even when the program is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from sf_runner.linux.lifeline import end_child
from sf_runner.linux.terminal_state import SavedTerminal

_PASSED_ON = (signal.SIGTERM, signal.SIGHUP)


def run_with_guard(body: Callable[[int | None], int]) -> int:
    """Call `body` with the pid of its guard (None: there is no terminal and no guard); its exit code.

    With a guard, `body` runs in a child process, which ends with that exit code; this function returns in the guard
    only. Both are in the foreground's process group, so Ctrl-C and Ctrl-Z reach them at the same time; the guard leaves
    them to the program.
    """
    saved = SavedTerminal.save()
    if saved is None:
        return body(None)
    guard = os.getpid()
    pid = os.fork()
    if pid == 0:
        end_child(lambda: body(guard))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for signum in _PASSED_ON:
        signal.signal(signum, lambda number, _: _kill(pid, number))
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie: nobody else has its number
        for signum in _PASSED_ON:
            signal.signal(signum, signal.SIG_IGN)  # nobody is left to pass them on to, and the terminal is given back
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        return 1
    saved.give_back(guard)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _kill(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        pass
