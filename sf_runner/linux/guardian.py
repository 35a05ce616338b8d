"""The runner is two processes: a tiny guardian, and the runner proper.

    shell -> guardian -> runner -> jobs

The guardian is what was started and sits in the foreground. The runner has a session of its own and is the parent of
the jobs. Any one of them may be killed:

- If the runner is killed, its jobs become children of the guardian, which is a child subreaper. The guardian writes
  their exit records and starts the runner again, which finds the jobs.
- If the guardian is killed, the runner notices, hands the run back (lock and journal) and stays only until its jobs
  have ended and their exit records are written. The next start of the same command goes on.

If both are killed together, the next start finds the jobs that still run. How the others ended is asked of the kernel;
where it cannot tell, they run again as a new attempt. The same holds for a runner that is killed after it was detached:
nobody guards it any more, because whoever waited for the command has got its end.

Signals sent to the guardian (the terminal's too) are passed on. The guardian imports next to nothing and costs nothing
while jobs run. Without it, the exit status of jobs that end after the runner was killed would be lost and they would
have to run again; a wrapper process around every job would cost two process starts for each.
"""

from __future__ import annotations

import mmap
import os
import selectors
import signal
import socket
from collections.abc import Callable
from typing import NoReturn

from sf_runner.basics.clock import steady_s
from sf_runner.linux.job_parent import JobParent
from sf_runner.linux.job_table import JobTable
from sf_runner.linux.kernel import Children, ChildWatch, EndedChild, make_subreaper, reap
from sf_runner.linux.lifeline import Lifeline, detach_output, end_child, flush_output
from sf_runner.linux.output import tell
from sf_runner.linux.terminal_state import SavedTerminal
from sf_runner.linux.wake_pipe import WakePipe

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH, signal.SIGUSR1, signal.SIGUSR2)
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MAX_RESTARTS = 25
_LEFTOVER_GRACE_S = 5.0
_TICK_S = 0.05


def run_guarded(body: Callable[[Lifeline], int]) -> int:
    """Call `body` in the runner process, which ends with the exit code that it returns.

    Returns in the guardian only: the exit code of the command.
    """
    terminal = SavedTerminal.save()
    make_subreaper()
    foreign = Children().all()  # of a shell that became this process with `exec`: none of our business
    tables: list[JobTable] = []
    spared: set[int] = set(foreign)
    jobs = JobParent(_LEFTOVER_GRACE_S, predecessors=tables, spared=spared, takes_untagged=not foreign)
    asked: list[int] = []
    named = mmap.mmap(-1, mmap.PAGESIZE)
    code: int | None = None
    for restarts in range(_MAX_RESTARTS + 1):
        tables.append(JobTable())
        ours, theirs = socket.socketpair()
        signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
        flush_output()
        pid = os.fork()
        if pid == 0:
            ours.close()
            line = Lifeline(
                fd=theirs.fileno(),
                guardian=os.getppid(),
                restarted=restarts > 0,
                held=jobs.live,
                table=tables[-1],
                _sock=theirs,
                _named=named,
            )
            _be_the_runner(body, line)
        theirs.close()
        spared.add(pid)
        guardian = _Guardian(pid, ours, jobs, asked)
        code = guardian.watch()
        if terminal is not None:
            terminal.give_back(os.getpid())  # a runner that was killed could not
        if code is not None:
            break
        spared.discard(pid)
        if restarts < _MAX_RESTARTS:
            signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)  # until the next runner can be told
            guardian.close()
            tell("the runner was killed; starting it again, experiments go on")
    if code is None:
        tell(f"error: the runner was killed {_MAX_RESTARTS + 1} times; giving up")
    return guardian.stay(1 if code is None else code, end_strays=not foreign)


def _be_the_runner(body: Callable[[Lifeline], int], line: Lifeline) -> NoReturn:
    assert line.table is not None
    line.table.claim()  # at once: the guardian must be able to tell the runner from a job
    os.setsid()
    if not line.restarted:  # else jobs are running, and a signal means something once the runner listens
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    end_child(lambda: body(line))


class _Guardian:
    """Watches the runner. `jobs` takes over the jobs of a runner that was killed.

    `asked`: signals that asked for an end; the next runner hears them again. It would not know of them otherwise.
    """

    def __init__(self, pid: int, sock: socket.socket, jobs: JobParent, asked: list[int]) -> None:
        self._pid = pid
        self._sock = sock
        self._jobs = jobs
        self._asked = asked
        self._reaped = False
        self._let_go = False
        """Whether the runner goes on in the background, with the jobs that it started."""
        self._children = ChildWatch()
        self._old = {signum: signal.signal(signum, self._pass_on) for signum in PASSED_ON if _wanted(signum)}
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector = selectors.DefaultSelector()
        self._wake = WakePipe()
        signal.set_wakeup_fd(self._wake.write_fd, warn_on_full_buffer=False)
        self._selector.register(self._wake.fd, selectors.EVENT_READ)
        self._selector.register(sock, selectors.EVENT_READ)
        for signum in dict.fromkeys(asked):
            self._send(signum)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)  # not before: what comes now is passed on once

    def watch(self) -> int | None:
        """The exit code of the command; None when the runner was killed and should be started again."""
        while True:
            ended = self._children.ended(self._pid)
            if ended is not None:
                self._reaped = True  # before: its number may be another process's afterwards
                reap(self._pid)
                self._jobs.inherit()
                return _exit_code(ended)
            self._jobs.poll()
            code = self._wait()
            if code is not None:
                return code

    def stay(self, code: int, *, end_strays: bool) -> int:
        """Until every inherited job has ended and its record is written; then the exit code.

        A runner that let go is the parent of the jobs that it started, but not of those of an earlier runner that was
        killed: these are ours. The same holds where the runner could not be started again. A signal that asks for an
        end then ends the guardian; the next start finds the jobs.
        """
        self._jobs.poll()
        if self._jobs.live or (self._jobs.busy and self._let_go):
            tell("waiting for experiments of an earlier runner, to record how they end; Ctrl-C lets them go on")
            if signal.SIGHUP in self._asked:
                detach_output()
            for signum in _ENDS:  # no runner hears them any more: they end the guardian, and experiments go on
                signal.signal(signum, signal.SIG_IGN if signum == signal.SIGHUP else signal.SIG_DFL)
        while self._jobs.busy:
            self._select(self._jobs.wait_s())
            self._jobs.poll()
        if end_strays and not self._let_go:
            self._end_strays()
        self.close()
        return code

    def _wait(self) -> int | None:
        """Until something happened; the exit code when the runner let go of us."""
        for fd in self._select(self._jobs.wait_s()):
            if fd == self._sock.fileno():
                message = self._sock.recv(64)
                if message:
                    self._let_go = True
                    return int(message.split()[0])
                self._selector.unregister(fd)  # it is ending; the signal will tell how
        return None

    def _end_strays(self) -> None:
        """What jobs left behind that nobody could attribute to one of them."""
        kill_at = steady_s() + _LEFTOVER_GRACE_S
        signum = signal.SIGTERM
        while strays := [pid for pid in self._jobs.others() if not reap(pid)]:
            for pid in strays:
                try:
                    os.kill(pid, signum)
                except OSError:
                    pass
            self._select(_TICK_S if signum == signal.SIGKILL else max(0.0, kill_at - steady_s()))
            if steady_s() >= kill_at:
                signum = signal.SIGKILL

    def _select(self, timeout_s: float | None) -> list[int]:
        ready = []
        for key, _ in self._selector.select(timeout_s):
            if key.fd == self._wake.fd:
                self._wake.drain()
            else:
                ready.append(key.fd)
        return ready

    def _pass_on(self, signum: int, frame: object) -> None:
        if signum in _ENDS:
            self._asked.append(signum)
        self._send(signum)

    def _send(self, signum: int) -> None:
        if self._reaped:
            return
        try:
            os.kill(self._pid, signum)
        except ProcessLookupError:
            pass

    def close(self) -> None:
        for signum, handler in self._old.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(-1)
        self._selector.close()
        self._wake.close()
        self._sock.close()


def _exit_code(ended: EndedChild) -> int | None:
    """The exit code of the command; None: the runner was killed."""
    if ended.exit_code is not None:
        return ended.exit_code
    assert ended.signal is not None
    return 128 + ended.signal if ended.signal in _ENDS else None


def _wanted(signum: int) -> bool:
    """A signal that was ignored when we were started (nohup) stays ignored."""
    return signal.getsignal(signum) != signal.SIG_IGN
