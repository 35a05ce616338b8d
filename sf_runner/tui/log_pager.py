"""Looking into log files of any size: the last lines for the panel, and a window that moves for the full screen.

Positions are byte offsets of line beginnings; nothing is ever counted from the start of the file, and no more than a
bounded part of it is read at a time.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

from sf_runner.basics.tail import lines_back, read_tail_from, without_newline
from sf_runner.tui.text import clean

_BLOCK = 1 << 16
_MAX_BACK = 1 << 20
"""A line longer than this is taken apart."""
_TAIL_PER_LINE = 512
_MAX_LINE = 8192


@dataclass(frozen=True, kw_only=True, slots=True)
class LogText:
    """Lines as they look on a terminal. `size` of the file in bytes and when it was last written (unix seconds); None:
    there is no file."""

    lines: tuple[str, ...] = ()
    size: int | None = None
    written_at: float = 0.0


class LogTail:
    """The last lines of one log at a time; read again only when the file changed.

    A write that was seen counts from when it was seen. Only of earlier ones the file's time tells, by whatever clock.
    """

    def __init__(self) -> None:
        self._key: object = None
        self._seen: tuple[Path, int, int] | None = None
        self._text = LogText()

    def read(self, path: Path, lines: int) -> LogText:
        try:
            status = path.stat()
        except OSError:
            self._key, self._seen, self._text = None, None, LogText()
            return self._text
        key = (path, lines, status.st_size, status.st_mtime_ns)
        if key != self._key:
            self._key, before = key, self._seen
            self._seen = (path, status.st_size, status.st_mtime_ns)
            if before is None or before[0] != path:
                written_at = status.st_mtime
            else:
                written_at = self._text.written_at if before == self._seen else time.time()
            self._text = LogText(lines=tuple(tail_lines(path, lines)), size=status.st_size, written_at=written_at)
        return self._text


def tail_lines(path: Path, number: int) -> list[str]:
    """The last lines of a file, made fit to be shown; blank ones at its end are left out."""
    want = max(4096, number * _TAIL_PER_LINE)
    try:
        with path.open("rb") as file:
            while True:
                data, start = read_tail_from(file, want)
                lines = _split(data, torn=start > 0)
                if len(lines) >= number or start == 0 or want >= _MAX_BACK:
                    break
                want *= 4
    except OSError:
        return []
    return lines[-number:] if number else []


def _split(data: bytes, *, torn: bool) -> list[str]:
    parts = data.rstrip(b"\n").split(b"\n") if data.strip(b"\n") else []
    if torn and len(parts) > 1:
        del parts[0]
    return [_shown(part) for part in parts]


def _shown(line: bytes) -> str:
    """A line as a terminal would have left it, without what a progress bar wrote over; the beginning of a huge one."""
    line = line.rstrip(b"\r")
    return clean(line[line.rfind(b"\r") + 1 :][:_MAX_LINE].decode("utf-8", "replace"))


class LogPager:
    """A window of whole lines on a log. While it follows, its last line is the file's last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.top = 0
        """Offset of the first line shown."""
        self.following = True
        self.column = 0
        """Cells scrolled to the right."""
        self._end_top: float = math.inf  # until a page has been made

    def page(self, rows: int) -> LogText:
        """The lines in the window, at most `rows`."""
        try:
            with self.path.open("rb") as file:
                fd, status = file.fileno(), os.fstat(file.fileno())
                size = status.st_size
                self._end_top = end_top = _back(fd, without_newline(fd, size), rows)
                if self.following or self.top > end_top:
                    self.top = end_top
                lines = _forward(fd, self.top, size, rows)
        except OSError:
            return LogText()
        return LogText(lines=tuple(lines), size=size, written_at=status.st_mtime)

    @property
    def at_end(self) -> bool:
        return self.top >= self._end_top

    def move(self, lines: int) -> None:
        """Down, or up where negative. Reaching the end by moving down follows from then on."""
        try:
            with self.path.open("rb") as file:
                fd, size = file.fileno(), os.fstat(file.fileno()).st_size
                if lines < 0:  # one newline more: the first one ends the line before
                    self.top = _back(fd, self.top, 1 - lines)
                else:
                    self.top = _skip(fd, self.top, size, lines)
        except OSError:
            return
        self.following = lines > 0 and self.top >= self._end_top

    def to_start(self) -> None:
        self.top, self.following = 0, False

    def to_end(self) -> None:
        self.following = True

    def toggle_follow(self) -> None:
        self.following = not self.following

    def sideways(self, cells: int) -> None:
        self.column = max(0, self.column + cells)


def _back(fd: int, offset: int, newlines: int) -> int:
    """The position after the `newlines`-th newline before `offset`, at most so far back as a line may be long."""
    return lines_back(fd, offset, newlines, max(0, offset - _MAX_BACK))


def _skip(fd: int, offset: int, size: int, lines: int) -> int:
    """The beginning of the line `lines` lines after the one at `offset`, or the end of the file."""
    position = line_start = offset
    while lines > 0 and position < size:
        data = os.pread(fd, _BLOCK, position)
        at = -1
        while lines > 0 and (found := data.find(b"\n", at + 1)) >= 0:
            at, lines = found, lines - 1
            line_start = position + at + 1
        position = line_start if lines == 0 else position + len(data)
        if position - line_start > _MAX_BACK:  # a huge line is taken apart
            line_start, lines = position, lines - 1
    return position


def _forward(fd: int, offset: int, size: int, rows: int) -> list[str]:
    """Lines from an offset on."""
    data = b""
    while data.count(b"\n") < rows and offset + len(data) < size and len(data) < _MAX_BACK:
        data += os.pread(fd, _BLOCK, offset + len(data))
    parts = data.split(b"\n")
    if parts and not parts[-1]:
        del parts[-1]
    return [_shown(part) for part in parts[:rows]]
