"""Being the parent of jobs: start them, reap them, end what they leave behind, write their exit records.

It decides nothing and imports nothing but the standard library, so that a wrapper on another machine can use it too.
With the process made a child subreaper, whatever a job leaves behind, daemons included, becomes its child and is found.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TAG_VARIABLE = "SF_RUNNER_TAG"
"""Every process of an attempt inherits this variable."""

_PR_SET_CHILD_SUBREAPER = 36
_TICK_S = 0.05
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


def make_subreaper() -> bool:
    """Orphaned descendants become our children from now on. False where the kernel has no such thing."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        return bool(libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def uptime_s() -> float:
    """Seconds since boot, suspended time included: the clock of process start times. Immune to clock adjustments."""
    return round(time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)), 2)


def write_record(path: str, record: Mapping[str, Any]) -> None:
    """Replace `path` atomically by the record as JSON. OSError when the disk is full or read-only."""
    tmp = f"{path}.tmp"
    try:
        fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, json.dumps(record).encode())
        finally:
            os.close(fd)
        os.rename(tmp, path)  # noqa: PTH104
    except OSError:
        try:
            os.unlink(tmp)  # noqa: PTH108
        except OSError:
            pass
        raise


def exit_record(attempt: int, pid: int, started: float, status: int, usage: Any) -> dict[str, Any]:
    """What is kept of an ended attempt.

    `max_rss_mb` is that of the largest single process; the kernel counts the moment before exec too, so it is never
    below the runner's own memory.
    """
    signaled = os.WIFSIGNALED(status)
    return {
        "version": 1,
        "attempt": attempt,
        "pid": pid,
        "exit_code": None if signaled else os.WEXITSTATUS(status),
        "signal": os.WTERMSIG(status) if signaled else None,
        "started": round(started, 3),
        "ended": round(time.time(), 3),
        "max_rss_mb": round(usage.ru_maxrss / 1024, 1),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
    }


def group_alive(pgid: int) -> bool:
    """Whether the process group has a member, zombies included."""
    try:
        os.killpg(pgid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody in the group changed user; it exists
        return True
    return True


def children() -> list[int]:
    """Our children, adopted ones included."""
    try:
        fd = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY)
    except OSError:
        return []
    try:
        return [int(pid) for pid in os.read(fd, 1 << 20).split()]
    finally:
        os.close(fd)


def read_environ(pid: int) -> dict[str, str]:
    """The environment a process was started with; empty when it is gone or may not be looked at."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            items = file.read().split(b"\0")
    except OSError:
        return {}
    pairs = (item.partition(b"=") for item in items if item)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


class _Job:
    """One live attempt. After its main process ended it stays until everything it left behind is gone."""

    __slots__ = ("group_left", "kill_at", "leftovers", "pid", "record", "request", "started")

    def __init__(self, request: SpawnRequest, pid: int, started: float) -> None:
        self.request = request
        self.pid = pid
        self.started = started
        self.record: dict[str, Any] = {}
        self.leftovers: set[int] = set()
        self.group_left = False
        self.kill_at = 0.0


class JobParent:
    """Children in this process's own session (a helper it started itself) are none of its business; they are neither
    reaped nor ended. Every other child is a job or something that a job left behind."""

    def __init__(self, leftover_grace_s: float) -> None:
        self._grace_s = leftover_grace_s
        self._session = os.getsid(0)
        self._jobs: dict[int, _Job] = {}
        self._ending: list[_Job] = []
        self._unwritten: list[tuple[str, Mapping[str, Any]]] = []
        self._affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()

    @property
    def busy(self) -> bool:
        """Whether a job runs, is being cleaned up after, or has an exit record that could not be written yet."""
        return bool(self._jobs or self._ending or self._unwritten)

    def wait_s(self) -> float | None:
        """Seconds after which `poll` should be called even without a SIGCHLD; None: never."""
        return _TICK_S if self._ending else _RETRY_RECORD_S if self._unwritten else None

    def spawn(self, request: SpawnRequest) -> int:
        """Start it in a session and process group of its own; its pid. OSError when it cannot be started."""
        directory = os.path.dirname(request.log)  # noqa: PTH120
        try:
            os.mkdir(directory)  # noqa: PTH102
        except FileExistsError:
            pass
        except FileNotFoundError:
            os.makedirs(directory, exist_ok=True)  # noqa: PTH103
        actions: list[tuple[Any, ...]] = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, request.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        argv, env = list(request.argv), request.env
        try:
            if request.cores:  # inherited by the child: exact, and without code between fork and exec
                os.sched_setaffinity(0, request.cores)
            # vfork underneath: as fast with a large parent as with a small one.
            pid = os.posix_spawnp(argv[0], argv, env, file_actions=actions, setsid=True, setsigdef=_RESET)
        finally:
            if request.cores:
                os.sched_setaffinity(0, self._affinity)
        self._jobs[pid] = _Job(request, pid, time.time())
        return pid

    def poll(self) -> list[JobEnd]:
        """Reap what ended, go on ending leftovers; the attempts of which nothing is left."""
        done: list[JobEnd] = []
        for job in self._reap():  # all are reaped first: no zombie of ours can be mistaken for a leftover
            self._main_ended(job, done)
        for job in list(self._ending):
            self._end_leftovers(job, done)
        if self._unwritten:
            pending, self._unwritten = self._unwritten, []
            for path, record in pending:
                self._write(path, record)
        return done

    def _reap(self) -> list[_Job]:
        ended: list[_Job] = []
        for pid in list(self._jobs):
            # One by one: wait4(-1) would also take the status of children that somebody else waits for.
            done, status, usage = os.wait4(pid, os.WNOHANG)
            if done:
                job = self._jobs.pop(pid)
                job.record = exit_record(job.request.attempt, pid, job.started, status, usage)
                ended.append(job)
        return ended

    def _main_ended(self, job: _Job, done: list[JobEnd]) -> None:
        self._find_leftovers(job)
        job.record["leftovers"] = len(job.leftovers) or int(job.group_left)
        self._write(job.request.exit_record, job.record)
        if not job.record["leftovers"]:
            done.append(JobEnd(job=job.request.job, attempt=job.request.attempt, record=job.record))
            return
        job.kill_at = time.monotonic() + self._grace_s
        self._signal_leftovers(job, signal.SIGTERM)
        self._ending.append(job)

    def _end_leftovers(self, job: _Job, done: list[JobEnd]) -> None:
        self._find_leftovers(job)
        if not (job.group_left or job.leftovers):
            self._ending.remove(job)
            done.append(JobEnd(job=job.request.job, attempt=job.request.attempt, record=job.record))
        elif time.monotonic() >= job.kill_at:
            self._signal_leftovers(job, signal.SIGKILL)

    def _find_leftovers(self, job: _Job) -> None:
        """Processes that outlived the job's main one: its group, and orphans of it that became our children."""
        job.group_left = group_alive(job.pid)
        job.leftovers.clear()
        own_tag = job.request.env.get(TAG_VARIABLE, "")
        for pid in children():
            if pid in self._jobs or not self._is_stray(pid):
                continue
            tag = read_environ(pid).get(TAG_VARIABLE, "")
            # An orphan without a readable tag (it cleared its environment) goes with the last job.
            last = not tag and not self._jobs and len(self._ending) <= 1
            if (tag and tag == own_tag) or last:
                job.leftovers.add(pid)

    def _is_stray(self, pid: int) -> bool:
        """Whether a child is something that a job left behind; reaps it if it has ended."""
        try:
            if os.getsid(pid) == self._session:
                return False
            return os.waitpid(pid, os.WNOHANG)[0] == 0
        except OSError:
            return False

    def _signal_leftovers(self, job: _Job, signum: int) -> None:
        if job.group_left:
            _quietly(os.killpg, job.pid, signum)
        for pid in job.leftovers:
            _quietly(os.kill, pid, signum)

    def _write(self, path: str, record: Mapping[str, Any]) -> None:
        try:
            write_record(path, record)
        except OSError as exc:
            if exc.errno != errno.ENOENT:  # else its directory was removed: nobody wants the record
                self._unwritten.append((path, record))


def _quietly(call: Callable[..., Any], *args: Any) -> None:
    try:
        call(*args)
    except OSError:
        pass
