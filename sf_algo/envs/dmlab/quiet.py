"""Keeps the noise of an engine and its map compiler off the terminal, and its last words for a message.

They go into a file, which is empty but while the engine works: what is in it when a process is found dead says why.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_MOST_BYTES = 1 << 14
_MOST_WORDS = 300
_TELLING = ("error", "check failed", "could not", "couldn't", "assert")
_lock = threading.RLock()


class Noise:
    """What was written to the descriptors of stdout and stderr meanwhile."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.last_words = ""
        """The line that explains most of what was printed last time; empty where nothing was."""

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Whatever this process and its children print goes into the file."""
        with _lock:
            for stream in (sys.stdout, sys.stderr):
                with suppress(Exception):  # a stream may be closed or none
                    stream.flush()
            saved = [os.dup(number) for number in (1, 2)]
            try:
                for number in (1, 2):
                    os.dup2(self._fd, number)
                yield
            finally:
                for number, copy in zip((1, 2), saved, strict=True):
                    os.dup2(copy, number)
                    os.close(copy)
                self.last_words = words_in(self._fd)
                os.ftruncate(self._fd, 0)

    def close(self) -> None:
        with suppress(OSError):
            os.close(self._fd)


def last_words(path: Path) -> str:
    """What the file of a dead engine says; empty where it says nothing."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return words_in(fd)
    finally:
        os.close(fd)


def words_in(fd: int) -> str:
    """The last line that speaks of an error, else the last one that says something."""
    size = os.fstat(fd).st_size
    tail = os.pread(fd, _MOST_BYTES, max(0, size - _MOST_BYTES)).decode(errors="replace")
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    telling = [line for line in lines if any(word in line.lower() for word in _TELLING)]
    return (telling or lines or [""])[-1][:_MOST_WORDS]
