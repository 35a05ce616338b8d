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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sf_runner.backends.job_parent import JobParent, read_record
from sf_runner.backends.job_table import JobNote, JobTable
from sf_runner.backends.kernel import (
    TAG_VARIABLE,
    ChildWatch,
    EndedChild,
    make_subreaper,
    process_stat,
    read_environ,
    read_tag,
    reap,
    session_of,
    started_up_s,
    uptime_s,
)
from sf_runner.terminal_state import SavedTerminal

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH, signal.SIGUSR1, signal.SIGUSR2)
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MAX_RESTARTS = 25
_LEFTOVER_GRACE_S = 5.0
_TICK_S = 0.05
_CLOCK_TOLERANCE_S = 0.05
_PROGRESS_VARIABLE = "SF_RUNNER_PROGRESS_FILE"
_ATTEMPT_VARIABLE = "SF_RUNNER_ATTEMPT"
_JOB_VARIABLE = "SF_RUNNER_JOB"


@dataclass(kw_only=True)
class Lifeline:
    """The guarded process's end. `fd` becomes readable when its guardian is gone."""

    fd: int
    guardians: Sequence[int]
    """Pids, the front one, which people know as the runner, first."""
    restarted: bool = False
    """Whether a guardian had to start it again."""
    held: Mapping[str, int] = field(default_factory=dict)
    """Attempts (their tags) of killed runners whose parent a guardian is now -> pid of the main process."""
    table: JobTable | None = None
    """Where the guardian will look for our jobs if we are killed."""
    _sock: socket.socket | None = field(default=None, repr=False)

    def let_go(self, code: int) -> None:
        """Have the command end with `code` now; this process goes on in the background, without the terminal."""
        if self._sock is not None:
            try:
                self._sock.send(f"{code}\n".encode())
            except OSError:
                pass
        detach_output()

    def is_cut(self) -> bool:
        """Whether the guardian is gone."""
        if self._sock is None:
            return False
        try:
            return self._sock.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) == b""
        except OSError:
            return False

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()


def run_guarded(body: Callable[[Lifeline], int]) -> int:
    """Call `body` in the runner process; returns in all three processes, with the exit code."""
    terminal = SavedTerminal.save()
    return _guard(lambda front: _guard(body, front, terminal), None, terminal)


def detach_output() -> None:
    """Let go of the terminal, or of the pipe somebody reads: what they wait for is over."""
    _flush_output()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


def _flush_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass


def _guard(body: Callable[[Lifeline], int], above: Lifeline | None, terminal: SavedTerminal | None) -> int:
    """Be a guardian. `above`: the line to our own guardian; None for the front one. `terminal`: as it was found."""
    make_subreaper()
    guardians = [*(above.guardians if above else ()), os.getpid()]
    spared: set[int] = set()
    heir = JobParent(_LEFTOVER_GRACE_S, spared=spared, takes_untagged=above is not None)
    asked: list[int] = []
    tables: list[JobTable] = [above.table] if above and above.table else []
    for restarts in range(_MAX_RESTARTS + 1):
        if above is None:  # the back guardian writes to the one it was given: the front one has to be able to read it
            tables.append(JobTable())
        ours, theirs = socket.socketpair()
        signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
        _flush_output()
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
                self._inherit()
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

    def _inherit(self) -> None:
        """Take over the jobs of whoever was killed: they are our children now."""
        being_started: list[JobNote] = []
        for table in self._tables:
            live, unclear = table.read()
            for pid, note in live.items():
                self._heir.inherit(pid, note)
            if started_up_s(table.writer) is None:
                being_started += [unclear] if unclear is not None else []
                if self._above is not None:  # the next runner will write to it
                    table.clear()
        others = self._heir.others()
        for pid in others:
            if session_of(pid) == pid and (known := _note_of(pid)) and known.tag not in self._heir.live:
                self._heir.inherit(pid, known)
        for note in being_started:
            if note.tag not in self._heir.live and (found := [pid for pid in others if _just_started(pid, note)]):
                self._heir.inherit(found[0], note)

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


def _note_of(pid: int) -> JobNote | None:
    """What the environment of a process tells of its attempt; None when it is no job's main process."""
    env = read_environ(pid)
    try:
        directory, attempt = os.path.dirname(env[_PROGRESS_VARIABLE]), int(env[_ATTEMPT_VARIABLE])  # noqa: PTH120
        note = JobNote(
            job=env[_JOB_VARIABLE],
            attempt=attempt,
            tag=env[TAG_VARIABLE],
            log=f"{directory}/attempt_{attempt}.log",
            exit_record=f"{directory}/exit.json",
            started=time.time(),
        )
    except (KeyError, ValueError):
        return None
    # A runner that runs as a job has that job's variables; and a daemon has those of a job that ended before it.
    own = note.tag == os.environ.get(TAG_VARIABLE)
    return None if own or read_record(note.exit_record, attempt) is not None else note


def _just_started(pid: int, note: JobNote) -> bool:
    """Whether a child is the job that was being started when the runner was killed: it may have ended since, or not
    even have become that program yet."""
    stat = process_stat(pid)
    if stat is None or read_record(note.exit_record, note.attempt) is not None:
        return False
    if read_tag(pid) not in ("", note.tag, os.environ.get(TAG_VARIABLE)):
        return False
    age_s = uptime_s() - stat.started_up_s
    return age_s - _CLOCK_TOLERANCE_S <= time.time() - note.started


def _wanted(signum: int) -> bool:
    """A signal that was ignored when we were started (nohup) stays ignored."""
    return signal.getsignal(signum) != signal.SIG_IGN


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass
