"""The parent of jobs: starts them, reaps them, ends what they leave behind, writes their exit records.

It decides nothing and needs only the standard library, so that the wrapper on a node of Slurm can use it, too. Make the
process a child subreaper: then whatever a job leaves behind, daemons included, becomes its child and is found.

If this process is killed, no outcome is lost: a job stays a zombie until its exit record is written, and the process
that its children go to reads in shared memory (`job_table.py`) which job each of them is.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sf_runner.basics.clock import since_boot_s, steady_s
from sf_runner.linux.ending import REAPED, Ending, Main, member_of, read_stop, send_missed_term, stop_file, trees_of
from sf_runner.linux.exit_record import exit_record, was_termed, write_record
from sf_runner.linux.inheritance import PROGRESS_VARIABLE, find_jobs
from sf_runner.linux.job_table import JobNote, JobTable
from sf_runner.linux.kernel import (
    TAG_VARIABLE,
    Children,
    ChildWatch,
    EndedChild,
    group_alive,
    is_child,
    process_stat,
    read_tag,
    reap,
    session_of,
    signal_group,
    signal_process,
    writes_to,
)
from sf_runner.linux.programs import find_program

_TICK_S = 0.05
_SLOW_TICK_S = 0.25
_OFTEN_S = 2.0
_RETRY_RECORD_S = 1.0
_RESET = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2]


@dataclass(frozen=True, kw_only=True)
class SpawnRequest:
    """`env` is complete. `cores`: CPUs to bind to; empty: not bound. Both files are absolute paths."""

    job: str
    attempt: int
    argv: Sequence[str]
    env: Mapping[str, str]
    log: str
    exit_record: str
    cores: Sequence[int] = ()


@dataclass(frozen=True, kw_only=True)
class JobEnd:
    """Nothing of the attempt is left."""

    job: str
    attempt: int
    record: Mapping[str, Any]


class _Job:
    """One live attempt. After its main process ended it stays until everything it left behind is gone."""

    __slots__ = ("ended_at", "ending", "group_left", "leftovers", "note", "pid", "record")

    def __init__(self, note: JobNote, pid: int) -> None:
        self.note = note
        self.pid = pid
        self.record: dict[str, Any] = {}
        self.leftovers: set[int] = set()
        self.group_left = False
        self.ended_at = 0.0
        self.ending: Ending | None = None
        """How what is left is being ended; None until that is decided."""

    def end(self) -> JobEnd:
        return JobEnd(job=self.note.job, attempt=self.note.attempt, record=self.record)


class JobParent:
    """Every child is taken for a job or for something that a job left behind, and reaped or ended accordingly.

    Exceptions: children in this process's own session (started for other purposes), and those in `spared`.

    table: where the process that our children go to will look for them if this process is killed.
    predecessors: tables of processes whose children come to this process when they are killed; may grow.
    takes_untagged: whether a child without a tag is something that a job left behind.
    being_ended: tells of (job, attempt) how this process is ending it, if it does. What was sent TERM already gets no
        second one, and has its whole grace period.
    cause_wait_s: if TERM ended the main process, for how long `being_ended` is asked who has sent it.
    """

    def __init__(
        self,
        leftover_grace_s: float,
        *,
        table: JobTable | None = None,
        predecessors: Sequence[JobTable] = (),
        spared: Collection[int] = frozenset(),
        takes_untagged: bool = True,
        being_ended: Callable[[str, int], Ending | None] = lambda job, attempt: None,
        cause_wait_s: float = 0.0,
    ) -> None:
        self._grace_s = leftover_grace_s
        self._being_ended = being_ended
        self._cause_wait_s = cause_wait_s
        self._table = table
        self._predecessors = predecessors
        self._spared = spared
        self._takes_untagged = takes_untagged
        self._session = os.getsid(0)
        self._watch = ChildWatch()
        self._children = Children(self._of_no_interest)
        self._jobs: dict[int, _Job] = {}
        self._ending: list[_Job] = []
        self._unwritten: list[tuple[str, Mapping[str, Any]]] = []
        self._find_program = lru_cache(maxsize=None)(find_program)
        self._undecided = False
        self._affinity = os.sched_getaffinity(0)

    @property
    def busy(self) -> bool:
        """Whether a job runs, is being cleaned up after, or has an exit record that could not be written yet."""
        return bool(self._jobs or self._ending or self._unwritten)

    @property
    def live(self) -> Mapping[str, int]:
        """Tag of each attempt whose main process has not ended -> that process."""
        return {job.note.tag: pid for pid, job in self._jobs.items()}

    def wait_s(self) -> float | None:
        """Seconds after which `poll` should be called even without a SIGCHLD; None: never."""
        if self._undecided:
            return _TICK_S
        if self._ending:  # they may save for minutes
            young = steady_s() - max(job.ended_at for job in self._ending) < _OFTEN_S
            return _TICK_S if young else _SLOW_TICK_S
        return _RETRY_RECORD_S if self._unwritten else None

    def spawn(self, request: SpawnRequest) -> int:
        """Start it in a session and process group of its own; its pid. OSError when it cannot be started."""
        _make_directory(request)
        if self._unwritten:  # what an earlier attempt could not write must not replace what this one will
            self._unwritten = [item for item in self._unwritten if item[0] != request.exit_record]
        note = JobNote(
            job=request.job,
            attempt=request.attempt,
            tag=request.env.get(TAG_VARIABLE, ""),
            log=request.log,
            exit_record=request.exit_record,
            started=time.time(),
            up=since_boot_s(),
            steady=steady_s(),
        )
        if self._table is not None:
            self._table.expect(note)
        try:
            if request.cores:  # inherited by the child: exact, and without code between fork and exec
                os.sched_setaffinity(0, request.cores)
            pid = self._start(request)
        finally:
            if request.cores:
                os.sched_setaffinity(0, self._affinity)
        if self._table is not None:
            self._table.started(pid)
        self._jobs[pid] = _Job(note, pid)
        return pid

    def _start(self, request: SpawnRequest) -> int:
        program = request.argv[0]
        path = self._find_program(program)
        if path is not None:
            try:
                return _spawn(os.posix_spawn, path, request)
            except OSError:  # perhaps it is somewhere else now
                self._find_program.cache_clear()
        return _spawn(os.posix_spawnp, program, request)

    def spare(self, pid: int) -> None:
        """That child is none of its business."""
        self._spared = frozenset((*self._spared, pid))

    def inherit(self) -> bool:
        """Take over the jobs of predecessors that were killed; some may have ended already.

        False: a predecessor is just ending, so it cannot be known yet whose an unknown child is.
        """
        if not self._predecessors:
            return True
        known = {job.note.tag for job in self._jobs.values()}
        found, decided = find_jobs(self._predecessors, self.others, known)
        for pid, note in found.items():
            if pid not in self._jobs and pid not in self._spared and is_child(pid):
                self._jobs[pid] = _Job(note, pid)
        return decided

    def poll(self) -> list[JobEnd]:
        """Reap what ended, go on ending leftovers; the attempts of which nothing is left."""
        done: list[JobEnd] = []
        for job in self._reap_all():  # all are reaped first: no zombie of ours can be mistaken for a leftover
            self._main_ended(job, done)
        for job in list(self._ending):
            self._end_leftovers(job, done)
        if self._unwritten:
            pending, self._unwritten = self._unwritten, []
            for path, record in pending:
                self._write(path, record)
        return done

    def others(self) -> list[int]:
        """Every child that is no job, ended ones included: what jobs left behind, or jobs to inherit."""
        return self._children.all()

    # ---- a job's main process ------------------------------------------------------------------------------

    def _reap_all(self) -> list[_Job]:
        """Reap whatever has ended; the jobs among it. An unknown child may be a job to inherit."""
        self._undecided = False
        ended, stranger = self._reap()
        while stranger is not None:
            spared = self._is_spared(stranger)
            self._undecided = not spared and not self.inherit()
            if spared or self._undecided:
                # The kernel shows this one first until it is reaped, so the jobs are asked one by one.
                for pid, job in list(self._jobs.items()):
                    if (child := self._watch.ended(pid)) is not None:
                        ended.append(self._reap_job(job, child))
                if spared:
                    self._reap_hidden()
                break
            if stranger not in self._jobs:
                reap(stranger)
            more, stranger = self._reap()
            ended += more
        return ended

    def _reap(self) -> tuple[list[_Job], int | None]:
        """Reap jobs that have ended until none is left, or an ended child that is not known to be one comes first: that
        child, or None, is the second value."""
        ended: list[_Job] = []
        while (child := self._watch.ended()) is not None:
            job = self._jobs.get(child.pid)
            if job is None:
                return ended, child.pid
            ended.append(self._reap_job(job, child))
        return ended, None

    def _reap_hidden(self) -> None:
        """Reap leftovers that have ended: as long as one is a zombie, the process group of its job lives."""
        for pid in self.others():
            if self._is_spared(pid) or self._watch.ended(pid) is None:
                continue
            if self.inherit() and pid not in self._jobs:
                reap(pid)

    def _reap_job(self, job: _Job, child: EndedChild) -> _Job:
        """Write the record, then reap: as long as the job is a zombie, its outcome can be read again."""
        took_s = steady_s() - job.note.steady
        job.record = exit_record(job.note.attempt, job.note.started, child, duration_s=took_s)
        self._write(job.note.exit_record, job.record)
        reap(job.pid)
        del self._jobs[job.pid]
        if self._table is not None:
            self._table.forget(job.pid)
        return job

    def _is_spared(self, pid: int) -> bool:
        return pid in self._spared or session_of(pid) == self._session

    # ---- what it leaves behind -----------------------------------------------------------------------------

    def _main_ended(self, job: _Job, done: list[JobEnd]) -> None:
        self._find_leftovers(job)
        if not (job.group_left or job.leftovers):
            done.append(job.end())
            return
        job.ended_at = steady_s()
        self._ending.append(job)
        self._begin_ending(job, job.ended_at)

    def _end_leftovers(self, job: _Job, done: list[JobEnd]) -> None:
        self._find_leftovers(job)
        now = steady_s()
        if not (job.group_left or job.leftovers):
            self._ending.remove(job)
            done.append(job.end())
        elif job.ending is None:
            self._begin_ending(job, now)
        elif now >= job.ending.kill_at:
            self._signal_leftovers(job, signal.SIGKILL)

    def _begin_ending(self, job: _Job, now: float) -> None:
        """TERM to what is left, but for what has had it: it is saving."""
        attempt = job.note.attempt
        ending = self._being_ended(job.note.job, attempt)
        if ending is None and (elsewhere := read_stop(stop_file(job.note.exit_record), attempt)) is not None:
            ending = elsewhere[0]
        if ending is not None:
            job.ending = ending
            (members,) = trees_of({job.note.job: Main(job.note.tag, job.pid, REAPED)}).values()
            members += [found for pid in job.leftovers if (found := member_of(pid)) is not None]
            send_missed_term(ending, members, now)
        elif now >= job.ended_at + self._cause_wait_s or not was_termed(job.record):
            job.record["leftovers"] = len(job.leftovers) or 1
            self._write(job.note.exit_record, job.record)
            job.ending = Ending(kill_at=now + self._grace_s, grace_s=self._grace_s)
            self._signal_leftovers(job, signal.SIGTERM)

    def _find_leftovers(self, job: _Job) -> None:
        """Processes that outlived the job's main one: its group, and orphans of it that became our children."""
        # A process of that number would be another one, which has it since all of the group are gone.
        job.group_left = group_alive(job.pid) and process_stat(job.pid) is None
        found = self._children.since(job.pid, since_boot_s() - job.note.up)
        job.leftovers = {pid for pid in found if self._belongs_to(pid, job)}

    def _belongs_to(self, pid: int, job: _Job) -> bool:
        stat = process_stat(pid)
        if stat is None or stat.ended:  # it has ended since; what it was will be asked before it is reaped
            return False
        tag = read_tag(pid)
        if tag.partition(":")[0] == job.note.tag.partition(":")[0]:
            return tag == job.note.tag
        if session_of(pid) == job.pid or writes_to(pid, job.note.log):
            return True
        # A process that cleared its environment, left the session and closed the log cannot be attributed to a job: it
        # is ended with the last one.
        if not self._takes_untagged or self._jobs or len(self._ending) > 1:
            return False
        return self.inherit() and pid not in self._jobs

    def _of_no_interest(self, pid: int) -> bool:
        """Whether a process cannot be a leftover: a job itself, a live job's own, or spared."""
        if pid in self._jobs or pid in self._spared:
            return True
        session = session_of(pid)
        return session in self._jobs or session == self._session

    def _signal_leftovers(self, job: _Job, signum: int) -> None:
        if job.group_left:
            signal_group(job.pid, signum)
        for pid in job.leftovers:
            signal_process(pid, signum)

    def _write(self, path: str, record: Mapping[str, Any]) -> None:
        try:
            write_record(path, record)
        except OSError as exc:
            if exc.errno != errno.ENOENT:  # else its directory was removed: nobody wants the record
                self._unwritten = [*(item for item in self._unwritten if item[0] != path), (path, record)]


def _spawn(start: Callable[..., int], program: str, request: SpawnRequest) -> int:
    """vfork underneath: as fast with a large parent as with a small one."""
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, request.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    argv = list(request.argv)
    return start(program, argv, request.env, file_actions=actions, setsid=True, setsigdef=_RESET, setsigmask=())


def _make_directory(request: SpawnRequest) -> None:
    directory = request.log.rpartition("/")[0]
    try:
        os.mkdir(directory.rpartition("/")[0])  # noqa: PTH102  the experiment's: nearly always all that is missing
    except FileExistsError:
        pass
    except FileNotFoundError:
        os.makedirs(directory, exist_ok=True)  # noqa: PTH103
        return
    try:
        os.mkdir(directory)  # noqa: PTH102
    except FileExistsError:
        # Another attempt's, or of a run whose journal was removed: they must not be taken for this one's.
        for path in (request.exit_record, request.env.get(PROGRESS_VARIABLE, ""), stop_file(request.exit_record)):
            with suppress(OSError):
                os.unlink(path)  # noqa: PTH108
