"""What the runner prints never waits for whoever reads it: `... | less` left unread, Ctrl-S, a dead ssh connection, a
disk that hangs.

A thread writes; what it cannot write yet waits in memory, up to a limit. Beyond that lines are left out, and their
number is told where they would be. In a pipe, room is left for the closing words: whoever reads later finds the end of
the story even if the runner has gone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import select
import stat
import sys
import termios
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_LIMIT = 1 << 18
"""Bytes that wait for a reader; a few thousand lines."""
_CHUNK = 4096
_LOOK_AGAIN_S = 0.1
_PATIENCE_S = 2.0
"""For a reader that takes nothing, at the end."""
_LAST_PATIENCE_S = 10.0
"""The same for the closing words."""
_GONE = (errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO, errno.ENOTCONN, errno.ECONNRESET)


@dataclass(kw_only=True)
class Writer:
    """Writes to a file descriptor in a thread of its own; `put` never blocks.

    `broken`: the reader is gone; everything is a no-op from then on.
    """

    fd: int
    limit: int = _LIMIT
    broken: bool = False
    _queue: deque[bytes] = field(default_factory=deque)
    _waiting: int = 0
    _left_out: int = 0
    _closing: bool = False
    _busy: bool = False
    _written: int = 0
    _thread: threading.Thread | None = None
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def put(self, data: bytes) -> None:
        """Have it written, or left out where too much waits already."""
        with self._changed:
            if self.broken or not data:
                return
            if self._waiting + len(data) > self.limit and not self._closing:
                self._left_out += max(1, data.count(b"\n"))
                return
            self._tell_left_out()
            self._queue.append(data)
            self._waiting += len(data)
            self._start()
            self._changed.notify_all()

    def begin_closing(self) -> None:
        """What follows are the closing words. A reader that takes nothing for a moment does not get what waits before
        them."""
        self._wait(_PATIENCE_S)
        with self._changed:
            dropped = sum(data.count(b"\n") for data in self._queue)
            if dropped:
                self._queue.clear()
                self._waiting = 0
                self._left_out += dropped
            self._closing = True
            self._tell_left_out()

    def finish(self) -> bool:
        """Wait for the reader while it reads; whether everything was written, or nobody is there to read it."""
        return self._wait(_LAST_PATIENCE_S)

    def flush(self, patience_s: float = 1.0) -> bool:
        """As `finish`, for a moment."""
        return self._wait(patience_s)

    def _tell_left_out(self) -> None:
        if self._left_out:
            notice = f"... {self._left_out} lines left out: nobody read them in time\n".encode()
            self._left_out = 0
            self._queue.append(notice)
            self._waiting += len(notice)

    def _wait(self, patience_s: float) -> bool:
        """Until everything is written; False when nothing was for so long."""
        with self._changed:
            self._start()
            self._changed.notify_all()
            seen, deadline = self._written, time.monotonic() + patience_s
            while (self._queue or self._busy) and not self.broken:
                if self._written != seen:
                    seen, deadline = self._written, time.monotonic() + patience_s
                left_s = deadline - time.monotonic()
                if left_s <= 0.0:
                    return False
                self._changed.wait(min(left_s, _LOOK_AGAIN_S))
            return True

    # ---- the thread ----------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._thread is None and self._queue:
            thread = threading.Thread(target=self._run, name="output", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no further thread on this machine: tried again with the next line
                return
            self._thread = thread

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue or len(self._queue[0]) > (room := self._room()):
                    self._changed.wait(_LOOK_AGAIN_S if self._queue else None)
                data = self._take(room)
                self._busy = True
            self._write(data)
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _take(self, room: int) -> bytes:
        """As much as is written at once."""
        parts = [self._queue.popleft()]
        size = len(parts[0])
        while self._queue and size + len(self._queue[0]) <= min(room, _CHUNK):
            parts.append(self._queue.popleft())
            size += len(parts[-1])
        self._waiting -= size
        return b"".join(parts)

    def _room(self) -> int:
        """How many bytes a pipe takes without what is kept for the closing words; no limit for anything else."""
        if self._closing:
            return sys.maxsize
        try:
            if not stat.S_ISFIFO(os.fstat(self.fd).st_mode):
                return sys.maxsize
            size = fcntl.fcntl(self.fd, fcntl.F_GETPIPE_SZ)
            unread = int.from_bytes(fcntl.ioctl(self.fd, termios.FIONREAD, b"\0" * 4), sys.byteorder)
        except OSError:
            return sys.maxsize
        # A line for which there never is room goes into an empty pipe.
        return size // 2 - unread if unread else max(size // 2, len(self._queue[0]))

    def _write(self, data: bytes) -> None:
        while data and not self.broken:
            try:
                written = os.write(self.fd, data[:_CHUNK])
            except BlockingIOError:  # somebody made it non-blocking
                select.select((), (self.fd,), (), _LOOK_AGAIN_S)
                continue
            except OSError as exc:
                if exc.errno in _GONE:
                    self.broken = True
                return  # a full disk: this part is lost, later ones may not be
            data = data[written:]
            self._written += written


class _Stream(io.RawIOBase):
    """What `sys.stdout` and `sys.stderr` write to."""

    def __init__(self, writer: Writer, fd: int) -> None:
        super().__init__()
        self._writer, self._fd = writer, fd

    def write(self, data: Any) -> int:
        self._writer.put(bytes(data))
        return len(data)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)


class Output:
    """The runner's standard output and error while it must not wait for their readers."""

    def __init__(self) -> None:
        out, err = Writer(fd=1), Writer(fd=2)
        if _same_file(1, 2):
            err = out  # in the order in which it was printed
        self._writers = [out] if err is out else [out, err]
        self._closing = False
        self._arrived: bool | None = None
        self.stdout, self.stderr = _text(out, sys.stdout, 1), _text(err, sys.stderr, 2)

    def begin_closing(self) -> None:
        """What is printed from now on is for the end of the run."""
        if not self._closing:
            self._closing = True
            for writer in self._writers:
                writer.begin_closing()

    def finish(self) -> bool:
        """Whether everything arrived, as far as there was a reader for it. One that reads nothing is awaited once."""
        if self._arrived is not False:
            try:
                self.begin_closing()
                arrived = [writer.finish() for writer in self._writers]
                self._arrived = all(arrived)
            except KeyboardInterrupt:
                self._arrived = False
        return self._arrived

    def flush(self, patience_s: float) -> None:
        """Give readers a moment."""
        for writer in self._writers:
            writer.flush(patience_s)


_current: Output | None = None


@contextlib.contextmanager
def unblocked_output() -> Iterator[None]:
    """Within it, printing never blocks. At its end readers that read are waited for."""
    global _current  # noqa: PLW0603  standard output is one for the process, too
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    before = sys.stdout, sys.stderr
    _current = Output()
    sys.stdout, sys.stderr = _current.stdout, _current.stderr
    try:
        yield
    finally:
        _current.finish()
        sys.stdout, sys.stderr = before
        _current = None


def begin_closing() -> None:
    """What is printed from now on is for the end of the run, where `unblocked_output` is in force."""
    if _current is not None:
        _current.begin_closing()


def finish() -> bool:
    """Whether what was printed arrived; False when a reader did not take it."""
    return _current is None or _current.finish()


def print_later(text: str) -> bool:
    """Have it printed when the reader takes it; False where that would block."""
    if _current is None:
        return False
    _current.stdout.write(text)
    return True


def flush_soon(patience_s: float = 1.0) -> None:
    """Give readers a moment to take what was printed."""
    if _current is not None:
        _current.flush(patience_s)


def tell(text: str) -> None:
    """Print a short line on standard error, or leave it out where it would have to wait: for a process that has no
    thread to spare."""
    try:
        if select.select((), (2,), (), 0)[1]:  # then a pipe takes 4096 bytes at once
            os.write(2, (text + "\n").encode(errors="replace"))
    except (OSError, ValueError):  # nobody is there
        pass


def _same_file(first: int, second: int) -> bool:
    try:
        one, other = os.fstat(first), os.fstat(second)
    except OSError:
        return False
    return (one.st_dev, one.st_ino, one.st_rdev) == (other.st_dev, other.st_ino, other.st_rdev)


def _text(writer: Writer, like: Any, fd: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        _Stream(writer, fd),  # type: ignore[arg-type]
        encoding=getattr(like, "encoding", None) or "utf-8",
        errors=getattr(like, "errors", None) or "backslashreplace",
        line_buffering=True,
        write_through=True,
    )
