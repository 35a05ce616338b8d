"""Forked copies of the main process, which become its child processes later.

A copy is made early, before the main process has threads or open files. It waits until it gets its settings; then it
becomes a rollout worker or the learner process. The copy shares with the main process what was imported before the
fork: that saves the time of the import (one to two seconds of a core for torch) and the memory (150 MB for torch, 20 MB
for numpy and VizDoom).
"""

from __future__ import annotations

import gc
import os
import select
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NoReturn, Protocol

from sf_algo.processes.child_setup import leave_stopping_to_parent, sigint_blocked

_HEADER = struct.Struct("<QQ")
_MOST_DESCRIPTORS = 253  # that Linux takes in one message


class Settings(Protocol):
    """Settings of a child process, and the file descriptors that they name."""

    def inherited_fds(self) -> set[int]: ...

    def to_json(self) -> str: ...


class Forked(Protocol):
    """A child that was forked early, the leader of a process group."""

    pid: int

    @property
    def socket(self) -> socket.socket:
        """Our end of the socket to it, which children that are forked later close."""


Body = Callable[[str, Mapping[int, int]], int]
"""What a copy runs: (settings as JSON, descriptor number in the main process -> number here) -> exit code."""


class ForkedCopy:
    """A copy of this process that waits for its settings. It ends when it is let go, or when this process is gone."""

    def __init__(self, body: Body, others: Sequence[Forked] = ()) -> None:
        """Fork. This process should have imported what `body` needs, and must have no threads.

        `others`: the copies made earlier; the new one closes its inherited ends of their sockets. Linux only:
        elsewhere system libraries may not survive a fork.
        """
        self._started = False
        self._code: int | None = None
        self._reaping = threading.Lock()
        self.pid, self._socket = fork_early(
            lambda theirs: _wait_for_settings(theirs, body), [other.socket for other in others]
        )

    @property
    def socket(self) -> socket.socket:
        """Our end, for those who are forked later to close."""
        return self._socket

    @staticmethod
    def possible() -> bool:
        return sys.platform == "linux"

    def can_become(self, settings: Settings) -> bool:
        """Whether the copy is alive, unused, and able to receive that many descriptors."""
        return self.poll() is None and len(settings.inherited_fds()) <= _MOST_DESCRIPTORS

    def become(self, settings: Settings) -> None:
        """Send the settings with their descriptors; the copy then runs `body`. Only once.

        Raises:
            OSError: the copy has died.
        """
        send_settings(self._socket, settings)
        self._started = True
        self._socket.close()

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        with self._reaping:
            if self._code is None:
                try:
                    pid, status = os.waitpid(self.pid, os.WNOHANG)
                except ChildProcessError:  # somebody else has reaped it
                    pid, status = self.pid, 0
                if pid:
                    self._code = os.waitstatus_to_exitcode(status)
            return self._code

    def wait(self, timeout: float | None = None) -> int | None:
        """The exit code, as `poll`, after waiting at most `timeout` seconds (None: for ever) for the end."""
        deadline = None if timeout is None else time.monotonic() + timeout
        fd = -1
        while self.poll() is None:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            with suppress(ProcessLookupError):
                fd = os.pidfd_open(self.pid) if fd < 0 else fd
                select.select([fd], [], [], left)
        if fd >= 0:
            os.close(fd)
        return self._code

    def let_go(self) -> None:
        """End a copy that was never used, and reap it. A copy that was used goes on."""
        if not self._started:
            self._socket.close()
            self.wait()


def fork_early(main: Callable[[socket.socket], int], not_its: Sequence[socket.socket]) -> tuple[int, socket.socket]:
    """Fork this process while it is small and has no threads. The child runs `main` with its end of a socket and ends
    with the exit code that `main` returns. Returns the child's pid and our end.

    `not_its`: sockets to children made earlier, which the child closes.
    """
    ours, theirs = socket.socketpair()
    # What has been made so far stays for ever: no collection has to look through it, which would copy its pages.
    gc.collect()
    gc.freeze()
    sys.stdout.flush()
    sys.stderr.flush()
    with sigint_blocked():
        pid = os.fork()
        if pid == 0:
            # An end that is still open here would hide the end of the process that it belongs to.
            live(lambda: main(theirs), [ours, *not_its])
    theirs.close()
    return pid, ours


def live(main: Callable[[], int], not_mine: Sequence[socket.socket]) -> NoReturn:
    """All that a forked child does. It never returns into the code that forked it."""
    code = 1
    try:
        for other in not_mine:
            other.close()
        with suppress(OSError):
            os.setpgid(0, 0)  # signals for the group of the command are the main process's business
        leave_stopping_to_parent()
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        code = main()
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def send_settings(sock: socket.socket, settings: Settings, more: Sequence[int] = ()) -> None:
    """Send settings with the descriptors that they name, and `more` descriptors behind these. Raises OSError."""
    fds, text = sorted(settings.inherited_fds()), settings.to_json().encode()
    numbers = struct.pack(f"<{len(fds)}i", *fds)
    socket.send_fds(sock, [_HEADER.pack(len(numbers), len(text))], [*fds, *more])
    sock.sendall(numbers + text)


def receive_settings(sock: socket.socket) -> tuple[str, dict[int, int], list[int]] | None:
    """The settings as text, the number here of every descriptor that they name, and the descriptors behind these. None
    when the other end has been closed."""
    header, fds, _, _ = socket.recv_fds(sock, _HEADER.size, _MOST_DESCRIPTORS)
    if len(header) < _HEADER.size:
        return None
    numbers_size, text_size = _HEADER.unpack(header)
    numbers = struct.unpack(f"<{numbers_size // 4}i", _exactly(sock, numbers_size))
    text = _exactly(sock, text_size).decode()
    return text, dict(zip(numbers, fds, strict=False)), fds[len(numbers) :]


def _wait_for_settings(sock: socket.socket, body: Body) -> int:
    received = receive_settings(sock)
    sock.close()
    return 0 if received is None else body(received[0], received[1])


def _exactly(sock: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = sock.recv(size - len(parts))
        if not part:
            raise EOFError("the main process ended while it sent the settings")
        parts += part
    return bytes(parts)
