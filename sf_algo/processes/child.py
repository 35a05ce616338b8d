"""A child process of ours: started without a shell, listened to, ended with all that it has started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from sf_algo.ipc.messages import Message, MessageReader
from sf_algo.processes.child_setup import TRACE_SIGNAL, sigint_blocked, single_thread_environment
from sf_algo.processes.copies import ForkedCopy
from sf_algo.processes.fork_server import ForkServer, ServedChild
from sf_algo.processes.groups import wait_until_gone

_TRACE_WAIT_S = 0.5
_KILL_WAIT_S = 5.0


class ChildSettings(Protocol):
    """What a child is told."""

    @property
    def single_thread(self) -> bool: ...

    def to_json(self) -> str: ...

    def inherited_fds(self) -> set[int]: ...


class Lifeline:
    """A pipe whose write end only this process holds: its end of file tells children that we are gone."""

    def __init__(self) -> None:
        self.read_fd, self._write_fd = os.pipe()

    def close(self) -> None:
        for fd in (self.read_fd, self._write_fd):
            with suppress(OSError):
                os.close(fd)


class ChildProcess:
    """Runs `python -m <module> <descriptor of its settings>`, or a forked process that does the same.

    It leads a process group of its own (see `prepare_process`) in our session: Ctrl-C does not reach it, it
    can be ended together with what it starts, and the kernel weighs its niceness against ours.
    """

    def __init__(
        self,
        module: str,
        make_settings: Callable[[int, int], ChildSettings],
        forked_copy: ForkedCopy | None = None,
        fork_server: ForkServer | None = None,
    ) -> None:
        """`make_settings` gets the descriptors for messages to us and for stack traces. The process is `forked_copy`
        where that is still there, else one that `fork_server` forks, else a new one."""
        self._trace_fd = _anonymous_file()
        read_fd, write_fd = os.pipe()
        self.messages = MessageReader(read_fd)
        try:
            self._process = _start(module, make_settings(write_fd, self._trace_fd), forked_copy, fork_server)
        finally:
            os.close(write_fd)

    @property
    def pid(self) -> int:
        return self._process.pid

    def read(self) -> list[Message]:
        """The messages that have arrived."""
        return self.messages.read()

    @property
    def death(self) -> str | None:
        """How the process ended, in words; None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        return f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"

    def ask_trace(self) -> None:
        """Has a process that does not answer write its stack."""
        with suppress(OSError):
            os.kill(self.pid, TRACE_SIGNAL)
        time.sleep(_TRACE_WAIT_S)

    @property
    def trace(self) -> str:
        """Stack traces that the process has written on a fatal signal or when asked."""
        size = os.fstat(self._trace_fd).st_size
        return os.pread(self._trace_fd, size, 0).decode(errors="replace").strip()

    def wait(self, timeout_s: float) -> bool:
        """Whether the process has ended within that time."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return self._process.poll() is not None

    def kill(self) -> None:
        """Ends the process and everything in its process group, and collects it. What they had in use is free then."""
        if self._process.poll() is None:
            with suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)
        elif Path(f"/proc/{self.pid}").exists():
            return  # another process has its number by now, so nothing is left of its group
        with suppress(OSError):  # it may have died before it led a group
            os.killpg(self.pid, signal.SIGKILL)
        self.wait(_KILL_WAIT_S)
        wait_until_gone([self.pid], _KILL_WAIT_S)

    def close(self) -> None:
        """Ends the process if need be and closes the descriptors."""
        self.kill()
        self.messages.close()
        with suppress(OSError):
            os.close(self._trace_fd)


def _start(
    module: str, settings: ChildSettings, forked_copy: ForkedCopy | None, fork_server: ForkServer | None
) -> subprocess.Popen[bytes] | ForkedCopy | ServedChild:
    if forked_copy is not None and forked_copy.can_become(settings):
        with suppress(OSError):  # it has just died: then a new process has to do
            forked_copy.become(settings)
            return forked_copy
    if fork_server is not None:
        with suppress(OSError):
            return fork_server.start(settings)
    return _spawn(module, settings)


def _spawn(module: str, settings: ChildSettings) -> subprocess.Popen[bytes]:
    config_read, config_write = os.pipe()
    try:
        os.set_blocking(config_write, False)  # a configuration too large for a pipe must not hang us
        data = settings.to_json().encode()
        written = os.write(config_write, data)
        os.close(config_write)
        assert written == len(data), "the settings of a child fit into a pipe"
        with sigint_blocked():
            return subprocess.Popen(
                [sys.executable, "-m", module, str(config_read)],
                pass_fds=(config_read, *settings.inherited_fds()),
                stdin=subprocess.DEVNULL,
                env=_environment(settings),
            )
    finally:
        os.close(config_read)


def _environment(settings: ChildSettings) -> Mapping[str, str]:
    # The child finds what we find: a user's environment lies on our path, not necessarily on Python's own.
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
