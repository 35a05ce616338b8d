"""One rollout worker as a child process: started, watched, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from sf_algo.ipc.control import WorkerPhase, WorkerStatus
from sf_algo.ipc.messages import Message, MessageReader
from sf_algo.rollout.process import TRACE_SIGNAL, single_thread_environment
from sf_algo.rollout.settings import WorkerSettings

_TRACE_WAIT_S = 0.5
_KILL_WAIT_S = 5.0


@dataclass(frozen=True, kw_only=True)
class WorkerFailure:
    """A worker that died without a word or hangs."""

    worker_index: int
    what: str
    """One line: which worker and environments, what happened, while doing what."""
    trace: str
    """The stack of the worker where it could still be had, else empty."""


class WorkerProcess:
    """The process that runs `sf_algo.rollout.worker` in a session of its own, so that all it has started can
    be ended with it."""

    def __init__(self, settings: WorkerSettings, status: WorkerStatus) -> None:
        """Starts the process. Its `message_fd` and `trace_fd` are filled in here."""
        self.status = status
        self._trace_fd = _anonymous_file()
        read_fd, write_fd = os.pipe()
        self.messages = MessageReader(read_fd)
        self.settings = replace(settings, message_fd=write_fd, trace_fd=self._trace_fd)
        status.set_phase(WorkerPhase.STARTING)
        try:
            self._process = _spawn(self.settings)
        finally:
            os.close(write_fd)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def name(self) -> str:
        first = self.settings.env_indices(0).start
        last = first + self.settings.num_envs - 1
        envs = f"environment {first}" if first == last else f"environments {first}-{last}"
        return f"rollout worker {self.settings.worker_index} ({envs})"

    def read(self) -> list[Message]:
        return self.messages.read()

    def failure(self, *, step_timeout_s: float, reset_timeout_s: float) -> WorkerFailure | None:
        """What is wrong with the worker now, if anything."""
        code = self._process.poll()
        if code is not None and self.status.phase is not WorkerPhase.DONE:
            how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
            return self._failure(how)
        limits = {
            WorkerPhase.STARTING: reset_timeout_s,
            WorkerPhase.RESETTING: reset_timeout_s,
            WorkerPhase.STEPPING: step_timeout_s,
        }
        limit = limits.get(self.status.phase)
        if limit is None or self.status.age_s <= limit:
            return None
        with suppress(OSError):
            os.kill(self.pid, TRACE_SIGNAL)
        time.sleep(_TRACE_WAIT_S)
        flag = "--heartbeat_interval" if limit == step_timeout_s else "--reset_timeout_seconds"
        return self._failure(f"has not answered for {limit:g} s (see {flag})")

    def _failure(self, how: str) -> WorkerFailure:
        doing = {
            WorkerPhase.STARTING: "while it started",
            WorkerPhase.RESETTING: "while it made or reset environment {}",
            WorkerPhase.STEPPING: "while it stepped environment {}",
            WorkerPhase.WAITING: "while it waited for actions",
            WorkerPhase.DONE: "while it ended",
        }[self.status.phase].format(self.status.env_index)
        return WorkerFailure(
            worker_index=self.settings.worker_index,
            what=f"{self.name} {how} {doing}",
            trace=self._read_trace(),
        )

    def _read_trace(self) -> str:
        size = os.fstat(self._trace_fd).st_size
        return os.pread(self._trace_fd, size, 0).decode(errors="replace").strip()

    def wait(self, timeout_s: float) -> bool:
        """Whether the process has ended within that time."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return self.ended

    def kill(self) -> None:
        """Ends the process and everything in its session's group, and collects it."""
        with suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait(_KILL_WAIT_S)

    def close(self) -> None:
        """Ends the process if need be and closes the descriptors."""
        self.kill()
        self.messages.close()
        with suppress(OSError):
            os.close(self._trace_fd)


def _spawn(settings: WorkerSettings) -> subprocess.Popen[bytes]:
    config_read, config_write = os.pipe()
    try:
        os.set_blocking(config_write, False)  # a configuration too large for a pipe must not hang us
        data = settings.to_json().encode()
        assert os.write(config_write, data) == len(data), "the worker's settings fit into a pipe"
        os.close(config_write)
        return subprocess.Popen(
            [sys.executable, "-m", "sf_algo.rollout.worker", str(config_read)],
            pass_fds=(config_read, *settings.inherited_fds()),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=_environment(settings),
        )
    finally:
        os.close(config_read)


def _environment(settings: WorkerSettings) -> Mapping[str, str]:
    # The worker finds what we find: a user's environment lies on our path, not necessarily on Python's own.
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109
    threads = single_thread_environment() if settings.single_thread else {}
    return {**os.environ, **threads, "PYTHONPATH": path}


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("sf_algo_trace", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
