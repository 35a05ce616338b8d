"""The state of a run beside its journal, so that not all of a large journal has to be read again.

A file that may be deleted at any time. It is believed only if it fits the journal: same first line, and the bytes that
it stands for unchanged (by inode, size and times of the file, else by their checksum). Text in JSON, one line for each
column: another Python reads it, and nobody can run code with it. Its first line:
`{"format": 2, "head": ..., "offset": ..., "lines": ..., "crc": ..., "status": [...], "sum": ...}`.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

from sf_runner.basics.json_line import json_line
from sf_runner.basics.paths import STATE_CACHE
from sf_runner.state.compact import columns_of, state_of
from sf_runner.state.fold import RunState
from sf_runner.store.reader import JournalReader, Position

_FORMAT = 2
_CHUNK = 1 << 20


def state_cache_of(journal: Path) -> Path:
    """The file beside this journal."""
    return journal.with_name(STATE_CACHE)


class StateCache:
    """Reads and writes the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self, reader: JournalReader) -> RunState | None:
        """The state, and the reader moved to where it stands; None when there is none that fits the journal."""
        try:
            with self._path.open("rb") as file:
                header = json.loads(file.readline())
                if header["format"] != _FORMAT or not _fits(header, reader):
                    return None
                checksum, columns = 0, {}
                for line in file:
                    checksum = crc32(line, checksum)
                    columns.update(json.loads(line))
            if checksum != header["sum"]:
                return None
            state = state_of(columns, reader.entries)
            position = Position(offset=int(header["offset"]), lines=int(header["lines"]), crc=int(header["crc"]))
        except Exception:  # whatever it holds: the journal says the same
            return None
        reader.position = position
        return state

    def save(self, state: RunState, position: Position, head: bytes, status: os.stat_result) -> None:
        """`position`, `status`: of the journal when `state` was all that it says. Trouble with the disk is ignored."""
        self._write(_lines(state, position, head, status))

    def save_soon(
        self, state: RunState, position: Position, head: bytes, status: os.stat_result
    ) -> threading.Thread | None:
        """The same; the disk is written in the background, by this thread."""
        lines = _lines(state, position, head, status)
        thread = threading.Thread(target=self._write, args=(lines,), name="state-cache", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no further thread on this machine: readers read the journal
            return None
        return thread

    def _write(self, lines: Sequence[bytes]) -> None:
        tmp = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
        try:
            with tmp.open("wb") as file:
                file.writelines(lines)
            tmp.replace(self._path)
        except OSError:  # read-only, full
            with contextlib.suppress(OSError):
                tmp.unlink()


def _lines(state: RunState, position: Position, head: bytes, status: os.stat_result) -> list[bytes]:
    body = [json_line({name: column}).encode() + b"\n" for name, column in columns_of(state).items()]
    checksum = 0
    for line in body:
        checksum = crc32(line, checksum)
    header = {
        "format": _FORMAT,
        "head": head.decode("ascii", "replace"),
        "offset": position.offset,
        "lines": position.lines,
        "crc": position.crc,
        "status": _identity(status),
        "sum": checksum,
    }
    return [json_line(header).encode() + b"\n", *body]


def _fits(header: Mapping[str, Any], reader: JournalReader) -> bool:
    """Whether the journal begins with what the cached state stands for."""
    if not header["head"] or reader.head().decode("ascii", "replace") != header["head"]:
        return False
    offset = header["offset"]
    status = reader.path.stat()
    if status.st_size < offset:
        return False
    return bool(header["status"] == _identity(status) or _checksum(reader.path, offset) == header["crc"])


def _identity(status: os.stat_result) -> list[int]:
    return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _checksum(path: Path, size: int) -> int:
    checksum = 0
    with path.open("rb", buffering=0) as file:
        while size > 0 and (data := file.read(min(size, _CHUNK))):
            checksum = crc32(data, checksum)
            size -= len(data)
    return checksum
