"""The end of a file that may be long, growing, or gone. Standard library only."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_BLOCK = 1 << 16


def read_tail(file: BinaryIO, max_bytes: int) -> bytes:
    """The last `max_bytes` bytes of an open file, all of a shorter one. Does not move its position."""
    return read_tail_from(file, max_bytes)[0]


def read_tail_from(file: BinaryIO, max_bytes: int) -> tuple[bytes, int]:
    """The same, and at which byte of the file it begins."""
    size = os.fstat(file.fileno()).st_size
    start = max(0, size - max_bytes)
    return os.pread(file.fileno(), size - start, start), start


def lines_back(fd: int, offset: int, newlines: int, floor: int = 0) -> int:
    """The position after the `newlines`-th newline before `offset`; `floor` when there are fewer from there on."""
    position = offset
    while position > floor:
        start = max(floor, position - _BLOCK)
        data = os.pread(fd, position - start, start)
        at = len(data)
        while (at := data.rfind(b"\n", 0, at)) >= 0:
            newlines -= 1
            if newlines == 0:
                return start + at + 1
        position = start
    return floor


def without_newline(fd: int, size: int) -> int:
    """The end of the last line: the newline that closes it does not begin another."""
    return size - 1 if size and os.pread(fd, 1, size - 1) == b"\n" else size


def tail_text(path: Path, max_bytes: int) -> str:
    """The last bytes of a file as text; a character that is cut becomes U+FFFD. Empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return read_tail(file, max_bytes).decode("utf-8", "replace")
    except OSError:
        return ""


def last_line(path: Path, *, ignore: Callable[[str], object] = lambda line: False, max_bytes: int = 4096) -> str:
    """The last line with anything on it, stripped, among those that `ignore` does not match; empty when none is."""
    lines = tail_text(path, max_bytes).splitlines()
    said = (line.strip() for line in reversed(lines) if not ignore(line))
    return next((line for line in said if line), "")
