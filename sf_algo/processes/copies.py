"""A copy of the main process, made before that has threads, files or anything to do, which becomes one of its child
processes when that is wanted.

What the original has imported, the copy has for nothing: neither the time (one to two seconds of a core for torch) nor
the memory (150 MB for torch, 20 for numpy and VizDoom), which both share as long as neither changes it.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NoReturn, Protocol

from sf_algo.processes.inside_child import sigint_blocked

_HEADER = struct.Struct("<QQ")
_MOST_DESCRIPTORS = 253  # that Linux takes in one message


class Role(Protocol):
    """What the copy is told to do."""

    def inherited_fds(self) -> set[int]: ...

    def to_json(self) -> str: ...


Body = Callable[[str, Mapping[int, int]], int]
"""Plays a role until its end: gets the role as JSON and, for each descriptor in it, its number here. Returns the exit
code."""


class Understudy:
    """Waits for its role. It ends when it is let go, or when the process that made it is gone."""

    def __init__(self, body: Body, others: Sequence[Understudy] = ()) -> None:
        """Copies this process, which should have imported what `body` needs and have no threads. `others` were made
        before. Linux only: elsewhere system libraries may not survive it."""
        self._seat, theirs = socket.socketpair()
        self._playing = False
        self._code: int | None = None
        self._reaping = threading.Lock()
        # What has been made so far stays for ever: no collection has to look through it, which would copy its pages.
        gc.collect()
        gc.freeze()
        sys.stdout.flush()
        sys.stderr.flush()
        with sigint_blocked():
            self.pid = os.fork()
            if self.pid == 0:
                # An end that is still open here would hide the end of the process that it belongs to.
                _play(theirs, [self._seat, *(other._seat for other in others)], body)
        theirs.close()

    @staticmethod
    def possible() -> bool:
        return sys.platform == "linux"

    def can_play(self, role: Role) -> bool:
        """Whether it is there, and the role not too large for it."""
        return self.poll() is None and len(role.inherited_fds()) <= _MOST_DESCRIPTORS

    def play(self, role: Role) -> None:
        """Once. Raises OSError where it has died."""
        fds, text = sorted(role.inherited_fds()), role.to_json().encode()
        numbers = struct.pack(f"<{len(fds)}i", *fds)
        socket.send_fds(self._seat, [_HEADER.pack(len(numbers), len(text))], fds)
        self._seat.sendall(numbers + text)
        self._playing = True
        self._seat.close()

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
        """Waits for its end, at most so many seconds."""
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
        """It is not wanted any more: one without a role ends, and leaves no zombie. Nothing happens to another."""
        if not self._playing:
            self._seat.close()
            self.wait()


def _play(seat: socket.socket, not_mine: Sequence[socket.socket], body: Body) -> NoReturn:
    """The life of the copy. It never goes back to what the original was doing."""
    code = 1
    try:
        for other in not_mine:
            other.close()
        with suppress(OSError):
            os.setpgid(0, 0)  # signals for the group of the command are the main process's business
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        code = _wait_for_role(seat, body)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _wait_for_role(seat: socket.socket, body: Body) -> int:
    header, fds, _, _ = socket.recv_fds(seat, _HEADER.size, _MOST_DESCRIPTORS)
    if len(header) < _HEADER.size:
        return 0
    numbers_size, text_size = _HEADER.unpack(header)
    numbers = struct.unpack(f"<{len(fds)}i", _exactly(seat, numbers_size))
    text = _exactly(seat, text_size).decode()
    seat.close()
    return body(text, dict(zip(numbers, fds, strict=True)))


def _exactly(seat: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = seat.recv(size - len(parts))
        if not part:
            raise EOFError("the main process ended while it gave a role away")
        parts += part
    return bytes(parts)
