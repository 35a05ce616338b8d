"""Reads a journal line by line; it may be larger than the memory that a reader should take."""

from __future__ import annotations

import contextlib
import gc
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zlib import crc32

from sf_runner.state.events import (
    FORMAT_VERSION,
    Event,
    JobsChanged,
    JobsPlanned,
    JournalError,
    NewerEventError,
    decode,
)
from sf_runner.state.jobs import JournalLine

_CHUNK = 1 << 18
_HEAD = 512


@dataclass(kw_only=True)
class Position:
    """How far a journal was read: after `offset` bytes, which are `lines` lines with the checksum `crc`."""

    offset: int = 0
    lines: int = 0
    crc: int = 0


class JournalReader:
    """Events from `position` on, which moves along."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = Position()
        self._entries: tuple[int, Sequence[Mapping[str, Any]]] = (-1, ())

    def events(self, damaged: Callable[[int], None] | None = None) -> Iterator[Event]:
        """Complete events; a torn last line is left alone. `damaged` is called with the number of a line that is no
        event; without it, that is an error.

        Raises:
            OSError: the file cannot be read.
            JournalError: a complete line is not an event, or the version is newer; names file and line.
        """
        rest = b""
        with self.path.open("rb") as file:
            file.seek(self.position.offset)
            while data := file.read(_CHUNK):
                end = data.rfind(b"\n") + 1
                if not end:
                    rest += data
                    continue
                lines, rest = rest + data[:end], data[end:]
                yield from self._decode(lines, damaged)
                self.position.crc = crc32(lines, self.position.crc)
                self.position.offset += len(lines)

    def _decode(self, data: bytes, damaged: Callable[[int], None] | None) -> Iterator[Event]:
        lines = data.decode("utf-8", "surrogateescape").split("\n")[:-1]
        offset = self.position.offset
        if not offset:
            check_header(self.path, lines[0])
        for line in lines:
            self.position.lines += 1
            try:
                event = decode(line)
            except JournalError as exc:
                if damaged is not None and not isinstance(exc, NewerEventError):
                    damaged(self.position.lines)
                    offset += len(line) + 1
                    continue
                raise JournalError(
                    f"{self.path}: line {self.position.lines} is damaged ({exc}); remove that line, or give the run a "
                    "new name"
                ) from exc
            if isinstance(event, JobsPlanned | JobsChanged):
                event = replace(event, line=JournalLine(self.entries, offset))
            yield event
            offset += len(line) + 1

    def entries(self, offset: int) -> Sequence[Mapping[str, Any]]:
        """Those of the line that describes jobs at this place; empty where it cannot be read (any more)."""
        if self._entries[0] != offset:
            found: Sequence[Mapping[str, Any]] = ()
            try:
                with self.path.open("rb") as file:
                    file.seek(offset)
                    event = decode(file.readline().decode("ascii").rstrip("\n"))
                if isinstance(event, JobsPlanned | JobsChanged):
                    found = event.jobs
            except (OSError, ValueError, JournalError):
                pass
            self._entries = (offset, found)
        return self._entries[1]

    def head(self) -> bytes:
        """The first line, which no other journal has; empty where it cannot be read."""
        try:
            with self.path.open("rb") as file:
                head = file.readline(_HEAD)
        except OSError:
            return b""
        return head if head.endswith(b"\n") or len(head) == _HEAD else b""


def read_journal(path: Path, *, offset: int = 0) -> tuple[list[Event], int]:
    """Complete events from byte `offset` on, and the offset after the last of them. As `JournalReader.events`."""
    reader = JournalReader(path)
    reader.position.offset = offset
    return list(reader.events()), reader.position.offset


def check_header(path: Path, line: str | bytes) -> None:
    """JournalError when the file is not a journal or of a newer format."""
    try:
        header = json.loads(line)
        version = int(header["version"])
    except (ValueError, KeyError, TypeError) as exc:
        raise JournalError(f"{path} is not a journal of sf_runner; move it away or choose another --train_dir") from exc
    if version > FORMAT_VERSION:
        raise JournalError(
            f"{path} was written by a newer sf_runner (format {version}, this one reads up to {FORMAT_VERSION}); "
            "upgrade sf_runner, or give the run a new name"
        )


@contextlib.contextmanager
def collection_paused() -> Iterator[None]:
    """Without the collection of cycles, which looks again and again through the many objects that are made: half of
    the time it takes to read a large journal."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
