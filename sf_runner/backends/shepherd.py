"""The parent of all local jobs: a small process of its own that outlives a killed runner.

It starts jobs, reaps them, ends what they left behind, and writes their exit records; it decides nothing. The runner
talks to it over a socket pair, one JSON object a line:

    {"op": "spawn", "job": ..., "attempt": 1, "argv": [...], "env": {...}, "unset": [...], "log": path, "exit": path,
     "cores": [0, 1] or null, "grace": 5.0}

and hears back `started`, `spawn_failed` and `ended`. When the runner is gone (end of file) it goes on until its last
job has ended, and then ends too. While it may still start jobs it holds an flock on the file named by its first
argument, so that a new runner knows when the old one's last words have been carried out.

It is a child subreaper: what a job leaves behind, daemons included, becomes its child, and is found and ended.

This file runs under `python -I -S`: standard library only, nothing of the package. A shell wrapper for each job would
have to start two more processes for each; this costs none.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import selectors
import signal
import socket
import sys
import time
from typing import Any

_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NAME = 15
_TICK_S = 0.05
_RETRY_RECORD_S = 1.0
_TAG = "SF_RUNNER_TAG"
_RESET = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2]


def make_subreaper() -> bool:
    """Orphaned descendants become our children from now on. False where the kernel has no such thing."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        return bool(libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def start_ticks(pid: int) -> int:
    """Start time of a process in clock ticks since boot: with the pid and the boot id, its identity. 0 if unknown."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return int(file.read().rpartition(b") ")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def write_record(path: str, record: dict[str, Any]) -> None:
    """Replace `path` atomically by the record as JSON. OSError when the disk is full or read-only."""
    tmp = f"{path}.tmp"
    try:
        with open(tmp, "w") as file:  # noqa: PTH123
            file.write(json.dumps(record))
        os.replace(tmp, path)  # noqa: PTH105
    except OSError:
        try:
            os.unlink(tmp)  # noqa: PTH108
        except OSError:
            pass
        raise


def exit_record(attempt: int, pid: int, started: float, status: int, usage: Any) -> dict[str, Any]:
    """What is kept of an ended attempt. `max_rss_mb` is that of the largest single process."""
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


def _group_alive(pgid: int) -> bool:
    try:
        os.killpg(pgid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody in the group changed user; it exists
        return True
    return True


def _children() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:  # noqa: PTH123
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def _tag_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            for item in file.read().split(b"\0"):
                if item.startswith(_TAG.encode() + b"="):
                    return item.partition(b"=")[2].decode(errors="replace")
    except OSError:
        pass
    return ""


class _Job:
    """One live attempt. After its main process ended it stays until everything it left behind is gone."""

    def __init__(self, request: dict[str, Any], pid: int, started: float) -> None:
        self.name: str = request["job"]
        self.attempt: int = request["attempt"]
        self.tag: str = request["env"].get(_TAG, "")
        self.exit_path: str = request["exit"]
        self.grace_s: float = request.get("grace", 5.0)
        self.pid = pid
        self.started = started
        self.record: dict[str, Any] | None = None
        self.leftovers: set[int] = set()
        self.group_left = False
        self.kill_at = 0.0


class Shepherd:
    def __init__(self, sock: socket.socket, lock_fd: int) -> None:
        self._sock: socket.socket | None = sock
        self._lock_fd = lock_fd
        self._in = b""
        self._out = b""
        self._jobs: dict[int, _Job] = {}
        self._ending: list[_Job] = []
        self._unwritten: list[tuple[str, dict[str, Any]]] = []
        self._environ = dict(os.environ)
        self._affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        self._selector = selectors.DefaultSelector()
        self._wake_r, wake_w = os.pipe()
        os.set_blocking(self._wake_r, False)
        os.set_blocking(wake_w, False)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT):
            signal.signal(signum, lambda *_: None)  # it ends when its jobs have ended, never before
        self._selector.register(self._wake_r, selectors.EVENT_READ)
        self._selector.register(sock, selectors.EVENT_READ)

    def run(self) -> None:
        while self._sock is not None or self._jobs or self._ending or self._unwritten:
            timeout = _TICK_S if self._ending else _RETRY_RECORD_S if self._unwritten else None
            for key, _ in self._selector.select(timeout):
                if key.fd == self._wake_r:
                    _drain(self._wake_r)
                else:
                    self._read()
            self._reap()
            self._end_leftovers()
            self._retry_records()
            self._write()

    # ---- the runner's side ---------------------------------------------------------------------------------

    def _read(self) -> None:
        assert self._sock is not None
        try:
            data = self._sock.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._orphaned()
            return
        *lines, self._in = (self._in + data).split(b"\n")
        for line in lines:
            self._spawn(json.loads(line))

    def _orphaned(self) -> None:
        """The runner is gone, and everything it had asked for is done: let a new one in."""
        assert self._sock is not None
        self._selector.unregister(self._sock)
        self._sock.close()
        self._sock, self._out = None, b""
        os.close(self._lock_fd)

    def _send(self, **message: Any) -> None:
        if self._sock is not None:
            self._out += json.dumps(message).encode() + b"\n"

    def _write(self) -> None:
        if self._sock is None or not self._out:
            return
        try:
            self._out = self._out[self._sock.send(self._out) :]
        except BlockingIOError:
            pass
        except OSError:
            return  # the read side will see the end of file
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._out else 0)
        self._selector.modify(self._sock, events)

    # ---- jobs ----------------------------------------------------------------------------------------------

    def _spawn(self, request: dict[str, Any]) -> None:
        env = {**self._environ, **request["env"]}
        for name in request.get("unset") or ():
            env.pop(name, None)
        cores = request.get("cores")
        try:
            if cores:  # inherited by the child: exact, and without code between fork and exec
                os.sched_setaffinity(0, cores)
            pid = self._posix_spawn(request, env)
        except OSError as exc:
            self._send(
                ev="spawn_failed", job=request["job"], attempt=request["attempt"], errno=exc.errno or 0,
                error=exc.strerror or str(exc), t=time.time(),
            )  # fmt: skip
            return
        finally:
            if cores:
                os.sched_setaffinity(0, self._affinity)
        job = _Job(request, pid, time.time())
        self._jobs[pid] = job
        self._send(ev="started", job=job.name, attempt=job.attempt, pid=pid, ticks=start_ticks(pid), t=job.started)

    def _posix_spawn(self, request: dict[str, Any], env: dict[str, str]) -> int:
        log, argv = request["log"], request["argv"]
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        actions: list[tuple[Any, ...]] = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, flags, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        try:
            return os.posix_spawnp(argv[0], argv, env, file_actions=actions, setsid=True, setsigdef=_RESET)
        except FileNotFoundError:
            directory = os.path.dirname(log)  # noqa: PTH120
            if os.path.isdir(directory):  # noqa: PTH112
                raise  # it was the program that was not found
        os.makedirs(directory, exist_ok=True)  # noqa: PTH103
        return os.posix_spawnp(argv[0], argv, env, file_actions=actions, setsid=True, setsigdef=_RESET)

    def _reap(self) -> None:
        ended: list[_Job] = []
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            job = self._jobs.pop(pid, None)
            if job is not None:  # else something a job left behind
                job.record = exit_record(job.attempt, pid, job.started, status, usage)
                ended.append(job)
        for job in ended:  # only now, when no zombie of ours can be mistaken for a leftover
            self._ended(job)

    def _ended(self, job: _Job) -> None:
        assert job.record is not None
        self._ending.append(job)
        self._find_leftovers(job)
        job.record["leftovers"] = len(job.leftovers) + job.group_left
        self._record(job.exit_path, job.record)
        if job.record["leftovers"]:
            job.kill_at = time.monotonic() + job.grace_s
            self._signal_leftovers(job, signal.SIGTERM)
        else:
            self._done(job)

    def _done(self, job: _Job) -> None:
        self._ending.remove(job)
        self._send(ev="ended", job=job.name, record=job.record)

    def _record(self, path: str, record: dict[str, Any]) -> None:
        try:
            write_record(path, record)
        except OSError as exc:
            if exc.errno == errno.ENOENT:  # its directory was removed: nobody wants the record
                return
            self._unwritten.append((path, record))

    def _retry_records(self) -> None:
        pending, self._unwritten = self._unwritten, []
        for path, record in pending:
            self._record(path, record)

    def _find_leftovers(self, job: _Job) -> None:
        """Processes that outlived the job's main one: its group, and orphans of it that became our children."""
        job.group_left = _group_alive(job.pid)
        job.leftovers = set()
        for pid in _children():
            if pid in self._jobs:
                continue
            tag = _tag_of(pid)
            # An orphan without a readable tag (it cleared its environment) goes with the last job.
            if (tag and tag == job.tag) or (not tag and not self._jobs and len(self._ending) == 1):
                job.leftovers.add(pid)

    def _signal_leftovers(self, job: _Job, signum: int) -> None:
        if job.group_left:
            _quietly(os.killpg, job.pid, signum)
        for pid in job.leftovers:
            _quietly(os.kill, pid, signum)

    def _end_leftovers(self) -> None:
        for job in list(self._ending):
            self._find_leftovers(job)
            if job.group_left or job.leftovers:
                if time.monotonic() >= job.kill_at:
                    self._signal_leftovers(job, signal.SIGKILL)
                continue
            self._done(job)


def _quietly(call: Any, *args: Any) -> None:
    try:
        call(*args)
    except OSError:
        pass


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass


def main(argv: list[str]) -> None:
    """`shepherd.py LOCK_FILE SOCKET_FD`"""
    lock_fd = os.open(argv[0], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    fcntl.flock(lock_fd, fcntl.LOCK_SH)
    make_subreaper()
    sock = socket.socket(fileno=int(argv[1]))
    sock.setblocking(False)
    sock.set_inheritable(False)
    sock.send(b'{"ev": "ready"}\n')
    Shepherd(sock, lock_fd).run()


if __name__ == "__main__":
    main(sys.argv[1:])
