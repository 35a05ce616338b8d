"""A copy of the main process, made before that has threads, files or anything to do, which becomes the learner process
when one is wanted.

Importing torch brings about 150 MB of private memory into a process and takes a core one to two seconds. A copy made
behind that import has both for nothing: its memory is shared with the original as long as neither changes it.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol

from sf_algo.ipc.process import sigint_blocked

_LENGTH = struct.Struct("<Q")
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

    def __init__(self, body: Body) -> None:
        """Copies this process, which should have imported what `body` needs and have no threads. Linux only: elsewhere
        system libraries may not survive it."""
        self._seat, theirs = socket.socketpair()
        # What has been made so far stays for ever: no collection has to look through it, which would copy its pages.
        gc.collect()
        gc.freeze()
        with sigint_blocked():
            self._process = multiprocessing.get_context("fork").Process(
                target=_wait_for_role, args=(theirs, self._seat, body), daemon=True
            )
            self._process.start()
        theirs.close()

    @staticmethod
    def possible() -> bool:
        return sys.platform == "linux"

    @property
    def pid(self) -> int:
        pid = self._process.pid
        assert pid is not None
        return pid

    def can_play(self, role: Role) -> bool:
        """Whether it is there, and the role not too large for it."""
        return self.poll() is None and len(role.inherited_fds()) <= _MOST_DESCRIPTORS

    def play(self, role: Role) -> None:
        """Once. Raises OSError where it has died."""
        fds, text = sorted(role.inherited_fds()), role.to_json().encode()
        numbers = struct.pack(f"<{len(fds)}i", *fds)
        socket.send_fds(self._seat, [_LENGTH.pack(len(numbers)) + _LENGTH.pack(len(text))], fds)
        self._seat.sendall(numbers + text)
        self._seat.close()

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        """Waits for its end, at most so many seconds."""
        self._process.join(timeout)
        return self.poll()

    def let_go(self) -> None:
        """It is not wanted: one without a role ends."""
        self._seat.close()
        self._process.join()


def _wait_for_role(seat: socket.socket, others: socket.socket, body: Body) -> None:
    others.close()  # else the end of the process that holds it could not be seen here
    with suppress(OSError):
        os.setpgid(0, 0)  # signals for the group of the command are the main process's business
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    header, fds, _, _ = socket.recv_fds(seat, 2 * _LENGTH.size, _MOST_DESCRIPTORS)
    if len(header) < 2 * _LENGTH.size:
        return
    (numbers_size,), (text_size,) = _LENGTH.unpack_from(header), _LENGTH.unpack_from(header, _LENGTH.size)
    numbers = struct.unpack(f"<{len(fds)}i", _exactly(seat, numbers_size))
    text = _exactly(seat, text_size).decode()
    seat.close()
    sys.exit(body(text, dict(zip(numbers, fds, strict=True))))


def _exactly(seat: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = seat.recv(size - len(parts))
        if not part:
            raise EOFError("the main process ended while it gave a role away")
        parts += part
    return bytes(parts)
