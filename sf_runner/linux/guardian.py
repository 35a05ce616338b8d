"""The runner is three processes: two tiny guardians, and the runner proper.

    shell -> front guardian -> back guardian -> runner -> jobs

The front one is what was started and sits in the foreground; the other two have sessions of their own. Whichever of
them is killed, the others keep the record straight:

- the runner is the parent of the jobs. If it is killed, the back guardian, a child subreaper, inherits them, records
  how they end and starts another runner, which finds them again;
- if a guardian is killed, the runner notices, hands the run back (lock and journal) and stays only until its jobs have
  ended and their exit records are written. If it was the back one, the front one starts both again;
- if the front guardian and the runner are killed together, the back guardian stays until the jobs have ended.

Signals sent to the front guardian (the terminal's too) are passed on. The guardians import next to nothing and cost
nothing while jobs run. Without them, the exit status of jobs that end after the runner was killed would be lost and
they would have to run again; a wrapper process around every job would cost two process starts for each.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence

from sf_runner.linux.inheritance import inherit, tables_to_read
from sf_runner.linux.job_parent import JobParent
from sf_runner.linux.job_table import JobTable
from sf_runner.linux.kernel import ChildWatch, EndedChild, make_subreaper, process_stat, reap
from sf_runner.linux.lifeline import Lifeline, detach_output, flush_output
from sf_runner.linux.terminal_state import SavedTerminal

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH, signal.SIGUSR1, signal.SIGUSR2)
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MAX_RESTARTS = 25
_LEFTOVER_GRACE_S = 5.0
_TICK_S = 0.05


def run_guarded(body: Callable[[Lifeline], int]) -> int:
    """Call `body` in the runner process; returns in all three processes, with the exit code."""
    terminal = SavedTerminal.save()
    return _guard(lambda front: _guard(body, front, terminal), None, terminal)


def _guard(body: Callable[[Lifeline], int], above: Lifeline | None, terminal: SavedTerminal | None) -> int:
    """Be a guardian. `above`: the line to our own guardian; None for the front one. `terminal`: as it was found."""
    make_subreaper()
    guardians = [*(above.guardians if above else ()), os.getpid()]
    spared: set[int] = set()
    heir = JobParent(
        _LEFTOVER_GRACE_S, table=above.table if above else None, spared=spared, takes_untagged=above is not None
    )
    asked: list[int] = []
    tables = [above.next_table] if above and above.next_table else []
    for restarts in range(_MAX_RESTARTS + 1):
        if above is None:  # of the runner and of the back guardian: if both are killed, their jobs come to this one
            tables += [JobTable(), JobTable()]
        ours, theirs = socket.socketpair()
        signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
        flush_output()
        restarted = restarts > 0 or (above is not None and above.restarted)
        pid = os.fork()
        if pid == 0:
            ours.close()
            line = Lifeline(
                fd=theirs.fileno(),
                guardians=guardians,
                restarted=restarted,
                held={**(above.held if above else {}), **heir.live},
                table=tables[-1],
                next_table=tables[-2] if above is None else None,
                _sock=theirs,
            )
            return _be_guarded(body, line, above)
        theirs.close()
        spared.clear()
        spared.add(pid)
        guardian = _Guardian(pid, ours, above, heir, tables, asked)
        code = guardian.watch()
        if terminal is not None:
            terminal.give_back(guardians[0])  # whoever was killed could not
        if code is not None or restarts == _MAX_RESTARTS:
            break
        guardian.close()
        _tell("the runner was killed; starting it again, experiments go on")
    if code is None:
        _tell(f"error: the runner was killed {restarts + 1} times; giving up")
    return guardian.stay(1 if code is None else code)


def _be_guarded(body: Callable[[Lifeline], int], line: Lifeline, above: Lifeline | None) -> int:
    if above is not None:
        above.close()
    if line.table is not None:  # at once: a guardian must be able to tell us from a job
        line.table.claim()
    os.setsid()
    if not line.restarted:  # else jobs are running, and a signal means something once the runner listens
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    return body(line)


def _tell(text: str) -> None:
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:  # the terminal is gone
        pass


class _Guardian:
    """Watches one process: the runner, or the other guardian. `heir` takes over the jobs of whoever is killed.

    `asked`: signals that asked for an end; the next runner hears them again. It would not know of them otherwise.
    """

    def __init__(
        self,
        pid: int,
        sock: socket.socket,
        above: Lifeline | None,
        heir: JobParent,
        tables: Sequence[JobTable],
        asked: list[int],
    ) -> None:
        self._pid = pid
        self._sock: socket.socket | None = sock
        self._above = above
        self._heir = heir
        self._tables = tables
        self._children = ChildWatch()
        heir.on_unknown = self._inherit
        self._asked = asked
        self._alone = False
        """Nobody waits for the command any more: it let go, or our own guardian is gone."""
        self._old = {signum: signal.signal(signum, self._pass_on) for signum in PASSED_ON if _wanted(signum)}
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector = selectors.DefaultSelector()
        self._wake_r, self._wake_w = os.pipe()
        os.set_blocking(self._wake_r, False)
        os.set_blocking(self._wake_w, False)
        signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
        self._selector.register(self._wake_r, selectors.EVENT_READ)
        self._selector.register(sock, selectors.EVENT_READ)
        if above is not None:
            self._selector.register(above.fd, selectors.EVENT_READ)
        for signum in dict.fromkeys(asked):
            self._send(signum)

    def watch(self) -> int | None:
        """The exit code of the command; None when the process was killed and should be started again."""
        while True:
            ended = self._children.ended(self._pid)
            if ended is not None:
                reap(self._pid)
                inherit(self._heir, self._tables)
                return self._exit_code(ended)
            self._heir.poll()
            code = self._wait()
            if code is not None:
                return code

    def stay(self, code: int) -> int:
        """Until every inherited job has ended and its record is written; then the exit code. The front guardian, for
        which somebody waits, does not stay."""
        if self._above is not None:
            if self._heir.busy and not self._alone:
                self._leave(code)
            self._heir.poll()
            while self._heir.busy:
                self._select(self._heir.wait_s())
                self._heir.poll()
            self._end_strays()
        self.close()
        return code

    def _wait(self) -> int | None:
        """Until something happened; the exit code when the runner let go of us."""
        for fd in self._select(self._heir.wait_s()):
            if self._above is not None and fd == self._above.fd:  # never written to: our guardian is gone
                self._leave(None)
            elif self._sock is not None and fd == self._sock.fileno():
                message = self._sock.recv(64)
                if not message:  # it is ending; the signal will tell how
                    self._ignore(fd)
                elif self._above is None:
                    return int(message.split()[0])
                elif not self._alone:
                    self._leave(int(message.split()[0]))
        return None

    def _leave(self, code: int | None) -> None:
        """Nobody waits for us any more; `code` is what our guardian should end with."""
        self._alone = True
        assert self._above is not None
        self._ignore(self._above.fd)
        if code is not None:
            self._above.let_go(code)
            return
        detach_output()
        if self._sock is not None:  # the runner learns of it in the same way
            self._ignore(self._sock.fileno())
            self._sock.close()
            self._sock = None

    def _ignore(self, fd: int) -> None:
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def _exit_code(self, ended: EndedChild) -> int | None:
        if ended.exit_code is not None:
            return ended.exit_code
        assert ended.signal is not None
        if self._above is not None and not self._alone and self._above.is_cut():
            self._leave(None)
        if ended.signal in _ENDS or self._alone:
            return 128 + ended.signal
        return None

    def _inherit(self) -> bool:
        """Of an unknown child that has ended; False when it cannot be told yet what it is."""
        if self._above is not None:
            return inherit(self._heir, self._tables)
        tables = tables_to_read(self._tables[:-2], self._tables[-2:], process_stat(self._pid))
        return tables is not None and inherit(self._heir, tables)

    def _end_strays(self) -> None:
        """What jobs left behind that nobody could attribute to one of them."""
        kill_at = time.monotonic() + _LEFTOVER_GRACE_S
        signum = signal.SIGTERM
        while strays := [pid for pid in self._heir.others() if not reap(pid)]:
            for pid in strays:
                try:
                    os.kill(pid, signum)
                except OSError:
                    pass
            self._select(_TICK_S if signum == signal.SIGKILL else max(0.0, kill_at - time.monotonic()))
            if time.monotonic() >= kill_at:
                signum = signal.SIGKILL

    def _select(self, timeout_s: float | None) -> list[int]:
        ready = []
        for key, _ in self._selector.select(timeout_s):
            if key.fd == self._wake_r:
                _drain(self._wake_r)
            else:
                ready.append(key.fd)
        return ready

    def _pass_on(self, signum: int, frame: object) -> None:
        if signum in _ENDS:
            self._asked.append(signum)
        self._send(signum)

    def _send(self, signum: int) -> None:
        try:
            os.kill(self._pid, signum)
        except ProcessLookupError:
            pass

    def close(self) -> None:
        for signum, handler in self._old.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(-1)
        self._selector.close()
        os.close(self._wake_r)
        os.close(self._wake_w)
        if self._sock is not None:
            self._sock.close()


def _wanted(signum: int) -> bool:
    """A signal that was ignored when we were started (nohup) stays ignored."""
    return signal.getsignal(signum) != signal.SIG_IGN


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass
