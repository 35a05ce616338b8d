"""Jobs as processes of this machine: started by a shepherd, found again after a crash of anything.

Who sees a job end:
- its shepherd, its parent, which writes the exit record;
- this process, if the shepherd was killed: being a child subreaper it inherits the shepherd's jobs;
- an earlier runner's shepherd, which goes on without its runner: the job is watched through a pidfd and its exit
  record is awaited.
Only if runner and shepherd die while a job runs does nobody see its end; it is then reported Ended without a record.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from sf_runner.backends import shepherd
from sf_runner.backends.base import Ended, Known, Launch, NotStarted, Remark, Report, Started, StopLevel
from sf_runner.backends.orphans import OrphanWatch
from sf_runner.backends.process_tools import (
    TAG_VARIABLE,
    boot_id,
    make_tag,
    tagged_processes,
)
from sf_runner.backends.stopping import Stopper
from sf_runner.errors import BackendError

_HANDOVER_TIMEOUT_S = 20.0
_LEFTOVER_GRACE_S = 5.0
_MAX_SHEPHERD_DEATHS = 20
_PERMANENT = (
    errno.ENOENT,
    errno.EACCES,
    errno.ENOEXEC,
    errno.E2BIG,
    errno.EPERM,
    errno.EINVAL,
    errno.ENOTDIR,
)


class ProcessesBackend:
    """The `processes` backend. `runner_dir` holds its lock and the shepherd's own log."""

    name = "processes"

    def __init__(self, runner_dir: Path, run_id: str, *, leftover_grace_s: float = _LEFTOVER_GRACE_S) -> None:
        self._runner_dir = runner_dir
        self._run_id = run_id
        self._leftover_grace_s = leftover_grace_s
        self._boot = boot_id()
        self._launches: dict[str, Launch] = {}
        self._pids: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None
        self._in = b""
        self._out = b""
        self._deaths = 0
        self._reports: list[Report] = []
        self._selector = selectors.DefaultSelector()
        self._stopper = Stopper(run_id)
        self._orphans = OrphanWatch(run_id, self._selector, self._stopper, leftover_grace_s)

    # ---- the protocol --------------------------------------------------------------------------------------

    def open(self) -> None:
        self._wait_for_handover()
        shepherd.make_subreaper()
        self._start_shepherd()

    def adopt(self, known: Sequence[Known]) -> list[Report]:
        return self._orphans.adopt(known)

    def submit(self, launch: Launch) -> None:
        self._launches[launch.job] = launch
        request = {
            "op": "spawn",
            "job": launch.job,
            "attempt": launch.attempt,
            "argv": list(launch.argv),
            "env": {**launch.env, TAG_VARIABLE: make_tag(self._run_id, launch.job, launch.attempt)},
            "log": str(launch.log.absolute()),
            "exit": str(launch.exit_record.absolute()),
            "cores": list(launch.placement.cores) or None,
            "grace": self._leftover_grace_s,
        }
        self._out += json.dumps(request).encode() + b"\n"
        self._write()

    def stop(self, job: str, level: StopLevel, grace_s: float) -> None:
        launch = self._launches.get(job)
        if launch is not None:
            self._stopper.add(job, launch.attempt, self._pids.get(job), level, grace_s)
        else:
            self._orphans.stop(job, level, grace_s)

    def poll(self, now: float) -> list[Report]:
        self._write()
        self._read()
        self._orphans.poll(now, self._reports)
        self._reports.extend(self._stopper.poll(now))
        reports, self._reports = self._reports, []
        return reports

    def fds(self) -> Sequence[int]:
        return (self._selector.fileno(),)  # epoll and kqueue selectors both have one

    def next_wake(self) -> float | None:
        times = [t for t in (self._stopper.next_wake(), self._orphans.next_wake()) if t is not None]
        return min(times, default=None)

    def close(self, *, detach: bool) -> None:
        if self._sock is not None:
            self._selector.unregister(self._sock)
            self._sock.close()
            self._sock = None
        if self._process is not None and not detach:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=10)
        self._orphans.close()
        self._selector.close()

    def sessions(self) -> dict[int, str]:
        """Pid of each live main process -> job, for telling our own GPU processes from other people's."""
        return {**{pid: job for job, pid in self._pids.items()}, **self._orphans.sessions()}

    # ---- the shepherd --------------------------------------------------------------------------------------

    @property
    def _lock_path(self) -> Path:
        return self._runner_dir / "shepherd.lock"

    def _wait_for_handover(self) -> None:
        """Until no shepherd of an earlier runner can still start a job that the earlier runner asked for."""
        self._runner_dir.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + _HANDOVER_TIMEOUT_S
        with self._lock_path.open("a") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                except OSError as exc:
                    if exc.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                        raise BackendError(f"cannot lock {self._lock_path}: {exc.strerror}") from exc
                    if time.monotonic() > deadline:
                        raise BackendError(
                            f"the job starter of an earlier runner still holds {self._lock_path} after "
                            f"{_HANDOVER_TIMEOUT_S:.0f} s; is it stopped (state T in ps)? End it and start again"
                        ) from exc
                time.sleep(0.01)

    def _start_shepherd(self) -> None:
        ours, theirs = socket.socketpair()
        log: IO[bytes]
        with theirs, (self._runner_dir / "shepherd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", shepherd.__file__, str(self._lock_path), str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, TAG_VARIABLE: make_tag(self._run_id, "shepherd", 0)},
            )
        ours.settimeout(30)
        try:
            ready = ours.recv(4096)
        except OSError:
            ready = b""
        if not ready:
            ours.close()
            raise BackendError(f"the job starter did not start; see {self._runner_dir / 'shepherd.log'}")
        ours.setblocking(False)
        self._sock, self._in, self._out = ours, ready, b""
        self._selector.register(ours, selectors.EVENT_READ)

    def _write(self) -> None:
        if self._sock is None or not self._out:
            return
        try:
            sent = self._sock.send(self._out)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # the read side will see the end of file
        self._out = self._out[sent:]
        self._selector.modify(self._sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if self._out else 0))

    def _read(self) -> None:
        while self._sock is not None:
            try:
                data = self._sock.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            *lines, self._in = (self._in + data).split(b"\n")
            for line in lines:
                self._hear(json.loads(line))
            if not data:
                self._shepherd_died()

    def _hear(self, message: dict[str, Any]) -> None:
        event = message["ev"]
        if event == "ready":
            return
        job = message["job"]
        launch = self._launches[job]
        if event == "started":
            self._pids[job] = message["pid"]
            handle = {"pid": message["pid"], "ticks": message["ticks"], "boot": self._boot}
            self._reports.append(Started(job=job, attempt=launch.attempt, handle=handle, t=message["t"]))
            self._stopper.known(job, message["pid"])
        elif event == "spawn_failed":
            self._forget(job)
            self._reports.append(
                NotStarted(
                    job=job,
                    attempt=launch.attempt,
                    t=message["t"],
                    error=_spawn_error(launch, message),
                    permanent=message["errno"] in _PERMANENT,
                )
            )
        elif event == "ended":
            record = message["record"]
            self._forget(job)
            self._reports.append(Ended(job=job, attempt=launch.attempt, t=record["ended"], record=record))

    def _forget(self, job: str) -> None:
        del self._launches[job]
        self._pids.pop(job, None)
        self._stopper.forget(job)

    def _shepherd_died(self) -> None:
        """It never ends by itself while connected: somebody killed it. Its jobs live on and are now our children."""
        assert self._sock is not None
        assert self._process is not None
        self._selector.unregister(self._sock)
        self._sock.close()
        self._sock = None
        self._process.wait()
        self._deaths += 1
        if self._deaths > _MAX_SHEPHERD_DEATHS:
            raise BackendError(
                f"the job starter was killed {self._deaths} times; running jobs go on, see "
                f"{self._runner_dir / 'shepherd.log'}, then start the same command again"
            )
        self._reports.append(
            Remark(text=f"the job starter (pid {self._process.pid}) was killed; started another, jobs go on")
        )
        known = [
            Known(
                job=job,
                attempt=launch.attempt,
                handle={"pid": self._pids[job], "boot": self._boot} if job in self._pids else None,
                exit_record=launch.exit_record,
            )
            for job, launch in self._launches.items()
        ]
        self._launches.clear()
        self._pids.clear()
        self._start_shepherd()
        # Whether a request that was under way had been carried out shows in the process table alone.
        self._reports.extend(self._orphans.adopt(known))


def _spawn_error(launch: Launch, message: dict[str, Any]) -> str:
    if message["errno"] == errno.ENOENT:
        return f"program '{launch.argv[0]}' was not found on PATH"
    if message["errno"] == errno.ENOSPC:
        return f"the disk is full: cannot write {launch.log}"
    return f"cannot start '{launch.argv[0]}': {message['error']}"


def live_processes(run_id: str) -> dict[str, list[int]]:
    """Every process of a run on this machine, by tag; shepherds included."""
    return tagged_processes([f"{run_id}:"])
