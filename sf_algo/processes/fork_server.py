"""A small process that forks child processes for the main process, which cannot fork any more once it has threads.

It is forked from the main process as early as the copies (`copies.py`). So whatever the user's program had made by then
is in every child: functions that no import path leads to, modules that are scripts, arrays in shared memory.

It outlives the main process where that is killed, and so is the one who can clean up when all others are gone.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

from sf_algo.processes.child_setup import name_process
from sf_algo.processes.copies import Body, Forked, Settings, fork_early, live, receive_settings, send_settings
from sf_algo.processes.groups import wait_until_gone

PROCESS_NAME = "sf_forker"
_NUMBER = struct.Struct("<q")
_UNKNOWN_CODE = 1
_ORPHANS_LIMIT_S = 20.0
"""So long may those whose main process is gone take to end."""


class ServedChild:
    """A child that the server has forked, with the methods of `subprocess.Popen` that we use. It is not our child: the
    server tells how it ends."""

    def __init__(self, report: socket.socket, pid: int) -> None:
        """`report` is where the server writes the exit code."""
        self.pid = pid
        self._report = report
        self._pidfd = -1
        with suppress(OSError):
            self._pidfd = os.pidfd_open(pid)
        self._code: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        with self._lock:
            if self._code is None and select.select([self._report], [], [], 0)[0]:
                self._code = self._read_code()
                if self._code is not None:
                    self._close()
            return self._code

    def wait(self, timeout: float | None = None) -> int | None:
        """The exit code, as `poll`, after waiting at most `timeout` seconds (None: for ever) for the end."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            watched = [self._report if not self._server_is_gone else self._pidfd]
            select.select(watched, [], [], left)
        return self._code

    _server_is_gone = False

    def _read_code(self) -> int | None:
        data = b"" if self._server_is_gone else self._report.recv(_NUMBER.size)
        if len(data) == _NUMBER.size:
            return int(_NUMBER.unpack(data)[0])
        self._server_is_gone = True  # nobody knows how the child ends, but one can see that it does
        ended = self._pidfd < 0 or bool(select.select([self._pidfd], [], [], 0)[0])
        return _UNKNOWN_CODE if ended else None

    def _close(self) -> None:
        self._report.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)


class ForkServer:
    """Forks children that run `body` with the settings they are given. It ends when it is closed, or when this process
    is gone; its children do not end with it."""

    def __init__(
        self, body: Body, others: Sequence[Forked] = (), clean_up: Callable[[], object] = lambda: None
    ) -> None:
        """Fork the server. This process should have imported what `body` needs, and must have no threads. `others`:
        the copies made earlier. Linux only.

        `clean_up` runs in the server when this process has ended without closing it, once `others`, the server's
        children and what all of these have started have ended, too.
        """
        earlier = [other.pid for other in others]
        self.pid, self._socket = fork_early(
            lambda theirs: _serve(theirs, body, earlier, clean_up), [other.socket for other in others]
        )

    @property
    def socket(self) -> socket.socket:
        """Our end, for those who are forked later to close."""
        return self._socket

    def start(self, settings: Settings) -> ServedChild:
        """A new child. Raises OSError when the server is gone or cannot fork."""
        report, theirs = socket.socketpair()
        try:
            with theirs:
                send_settings(self._socket, settings, [theirs.fileno()])
            answer = report.recv(_NUMBER.size)
            if len(answer) < _NUMBER.size:
                raise OSError("the process that forks rollout workers has ended")
            (pid,) = _NUMBER.unpack(answer)
            if pid < 0:
                raise OSError(-pid, os.strerror(-pid))
        except BaseException:
            report.close()
            raise
        return ServedChild(report, pid)

    def close(self) -> None:
        """End the server, and reap it."""
        if self._socket.fileno() < 0:
            return
        with suppress(OSError):
            send_settings(self._socket, _Farewell())
        self._socket.close()
        with suppress(ChildProcessError):  # somebody else has reaped it
            os.waitpid(self.pid, 0)


class _Farewell:
    """Settings that no child has: the main process closes the server. Its death says nothing."""

    def inherited_fds(self) -> set[int]:
        return set()

    def to_json(self) -> str:
        return ""


def _serve(requests: socket.socket, body: Body, earlier: Collection[int], clean_up: Callable[[], object]) -> int:
    """Fork children on request, and report the ends of those that are there, until the main process says farewell or
    is gone. `earlier`: process groups that may be left then, beside those of the children."""
    name_process(PROCESS_NAME)
    groups = set(earlier)
    children: dict[int, tuple[int, socket.socket]] = {}
    """pidfd -> pid and where to report its end."""
    while True:
        watched: list[socket.socket | int] = [requests, *children]
        ready = select.select(watched, [], [])[0]
        for pidfd in set(children).intersection(ready):
            _report_end(pidfd, *children.pop(pidfd))
        if requests in ready:
            received = _receive(requests)
            if received is None:
                wait_until_gone(groups, _ORPHANS_LIMIT_S)
                clean_up()
                return 0
            if not received[0]:
                return 0
            text, fds, (report_fd,) = received
            report = socket.socket(fileno=report_fd)
            pid = _fork(text, fds, body, [requests, report, *(sock for _, sock in children.values())])
            for fd in fds.values():
                os.close(fd)
            with suppress(OSError):  # the main process may have ended meanwhile
                report.sendall(_NUMBER.pack(pid))
            if pid > 0:
                groups.add(pid)
                children[os.pidfd_open(pid)] = (pid, report)
            else:
                report.close()


def _receive(requests: socket.socket) -> tuple[str, dict[int, int], list[int]] | None:
    """As `receive_settings`; None also where the main process was killed while it sent them."""
    try:
        return receive_settings(requests)
    except (EOFError, OSError):
        return None


def _fork(text: str, fds: dict[int, int], body: Body, not_its: Sequence[socket.socket]) -> int:
    """The pid, or the negative number of the error."""
    try:
        pid = os.fork()
    except OSError as error:
        return -(error.errno or 1)
    if pid == 0:
        live(lambda: body(text, fds), not_its)
    return pid


def _report_end(pidfd: int, pid: int, report: socket.socket) -> None:
    _, status = os.waitpid(pid, 0)
    os.close(pidfd)
    with suppress(OSError):
        report.sendall(_NUMBER.pack(os.waitstatus_to_exitcode(status)))
    report.close()
