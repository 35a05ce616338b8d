"""Keeps the noise of an engine and its map compiler off the terminal, and its last words for a message."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_MOST_BYTES = 1 << 14
_lock = threading.RLock()


class Noise:
    """What was written to the descriptors of stdout and stderr meanwhile."""

    def __init__(self) -> None:
        self._fd = os.memfd_create("dmlab_noise")

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Whatever this process and its children print goes into memory; the newest bytes are kept."""
        with _lock:
            for stream in (sys.stdout, sys.stderr):
                with suppress(Exception):  # a stream may be closed or none
                    stream.flush()
            os.ftruncate(self._fd, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)
            saved = [os.dup(number) for number in (1, 2)]
            try:
                for number in (1, 2):
                    os.dup2(self._fd, number)
                yield
            finally:
                for number, copy in zip((1, 2), saved, strict=True):
                    os.dup2(copy, number)
                    os.close(copy)

    def last_line(self) -> str:
        """The last line that says something; empty where nothing was printed."""
        size = os.fstat(self._fd).st_size
        tail = os.pread(self._fd, _MOST_BYTES, max(0, size - _MOST_BYTES)).decode(errors="replace")
        lines = [line.strip() for line in tail.splitlines() if line.strip()]
        return lines[-1] if lines else ""

    def close(self) -> None:
        with suppress(OSError):
            os.close(self._fd)
