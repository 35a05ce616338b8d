"""The runner is two processes: a tiny guardian in the foreground, and the runner proper in a session of its own.

    shell -> guardian -> runner -> jobs

Whichever is killed, the other one keeps the record straight:

- the runner is the parent of the jobs. If it is killed, the guardian, a child subreaper, inherits them, records how
  they end and starts another runner, which finds them again;
- if the guardian is killed, the runner notices, hands the run back (lock and journal) and stays only until its jobs
  have ended and their exit records are written.

Signals sent to the guardian (the terminal's too) are passed on. The guardian imports next to nothing and costs nothing
while jobs run. Without it, the exit status of jobs that end after the runner was killed would be lost and they would
have to run again; a wrapper process around every job would cost two process starts for each.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sf_runner.backends.job_parent import (
    TAG_VARIABLE,
    children,
    exit_record,
    make_subreaper,
    read_environ,
    write_record,
)
from sf_runner.terminal_state import SavedTerminal

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH, signal.SIGUSR1, signal.SIGUSR2)
_MAX_RESTARTS = 25
PROGRESS_VARIABLE = "SF_RUNNER_PROGRESS_FILE"
ATTEMPT_VARIABLE = "SF_RUNNER_ATTEMPT"


@dataclass(kw_only=True)
class Lifeline:
    """The runner's end. `fd` becomes readable when the guardian is gone."""

    fd: int
    guardian_pid: int
    restarted: int = 0
    """How often the guardian had to start the runner again."""
    statuses: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """Exit records of processes that ended while there was no runner, by pid; their attempt is not known here."""
    _sock: socket.socket | None = field(default=None, repr=False)

    def let_go(self, code: int) -> None:
        """Have the guardian exit with `code` now; this process goes on in the background."""
        if self._sock is not None:
            try:
                self._sock.send(f"{code}\n".encode())
            except OSError:
                pass

    def is_cut(self) -> bool:
        """Whether the guardian is gone."""
        if self._sock is None:
            return False
        try:
            return self._sock.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) == b""
        except OSError:
            return False


def run_guarded(body: Callable[[Lifeline], int]) -> int:
    """Call `body` in the runner process; returns in both processes, with the exit code."""
    make_subreaper()
    terminal = SavedTerminal.save()
    inherited: dict[int, _Inherited] = {}
    statuses: dict[int, dict[str, Any]] = {}
    for restarted in range(_MAX_RESTARTS + 1):
        ours, theirs = socket.socketpair()
        guardian_pid = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            ours.close()
            os.setsid()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
            return body(
                Lifeline(
                    fd=theirs.fileno(),
                    guardian_pid=guardian_pid,
                    restarted=restarted,
                    statuses=statuses,
                    _sock=theirs,
                )
            )
        theirs.close()
        code = _Guardian(pid, ours, inherited, statuses).watch()
        if terminal is not None:
            terminal.give_back()  # a runner that was killed could not
        if code is not None:
            return code
        print("the runner was killed; starting it again, experiments go on", file=sys.stderr, flush=True)
    print(f"error: the runner was killed {_MAX_RESTARTS + 1} times; giving up", file=sys.stderr, flush=True)
    return 1


@dataclass(frozen=True, kw_only=True)
class _Inherited:
    attempt: int
    path: str
    since: float


class _Guardian:
    """Watches one runner process. `inherited` and `statuses` are filled in and outlive it."""

    def __init__(
        self, pid: int, sock: socket.socket, inherited: dict[int, _Inherited], statuses: dict[int, dict[str, Any]]
    ) -> None:
        self._pid = pid
        self._sock = sock
        self._inherited = inherited
        self._statuses = statuses
        self._old = {signum: signal.signal(signum, self._pass_on) for signum in _PASSED_ON if _wanted(signum)}
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._wake_r, wake_w = os.pipe()
        os.set_blocking(self._wake_r, False)
        os.set_blocking(wake_w, False)
        self._wake_w = wake_w
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)

    def _pass_on(self, signum: int, frame: object) -> None:
        try:
            os.kill(self._pid, signum)
        except ProcessLookupError:
            pass

    def watch(self) -> int | None:
        """The exit code; None when the runner was killed and should be started again."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_r, selectors.EVENT_READ)
            selector.register(self._sock, selectors.EVENT_READ)
            while True:
                status = self._reap()
                if status is not None:
                    return self._runner_ended(status)
                for key, _ in selector.select():
                    if key.fd == self._wake_r:
                        _drain(self._wake_r)
                    elif code := self._sock.recv(64):
                        return int(code.split()[0])
                    else:  # it is ending; the signal will tell how
                        selector.unregister(self._sock)

    def _reap(self) -> int | None:
        """The runner's wait status once it has ended; records how inherited jobs ended."""
        found = None
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return found
            if pid == 0:
                return found
            if pid == self._pid:
                found = status
            elif (job := self._inherited.pop(pid, None)) is not None:
                try:
                    write_record(job.path, exit_record(job.attempt, pid, job.since, status, usage))
                except OSError:
                    pass  # the runner will say that nobody saw how it ended
            else:
                self._statuses[pid] = exit_record(0, pid, time.time(), status, usage)

    def _runner_ended(self, status: int) -> int | None:
        for signum, handler in self._old.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(-1)
        os.close(self._wake_r)
        os.close(self._wake_w)
        self._sock.close()
        if os.WIFEXITED(status):
            return os.WEXITSTATUS(status)
        if os.WTERMSIG(status) in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            return 128 + os.WTERMSIG(status)
        self._inherit()
        return None

    def _inherit(self) -> None:
        """The killed runner's jobs are our children now: note where each one's exit record belongs."""
        for pid in children():
            env = read_environ(pid)
            if TAG_VARIABLE in env and PROGRESS_VARIABLE in env:
                directory = os.path.dirname(env[PROGRESS_VARIABLE])  # noqa: PTH120
                self._inherited[pid] = _Inherited(
                    attempt=int(env[ATTEMPT_VARIABLE]), path=f"{directory}/exit.json", since=time.time()
                )


def _wanted(signum: int) -> bool:
    """A signal that was ignored when we were started (nohup) stays ignored."""
    return signal.getsignal(signum) != signal.SIG_IGN


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass
