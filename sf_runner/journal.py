"""The append-only journal: one writer, guarded by a file lock; any number of readers.

Guarantees: events are on their way to disk in the order appended; a line torn by a crash is dropped at the next open
(it was never acknowledged to anybody); a full disk loses nothing, the unwritten bytes are kept and written later.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from sf_runner.events import FORMAT_VERSION, Event, JournalCreated, JournalError, Note, decode, encode

_DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def read_journal(path: Path, *, offset: int = 0) -> tuple[list[Event], int]:
    """Complete events from byte `offset` on, and the offset after the last of them. A torn last line is left alone.

    Raises JournalError naming the file and line when a complete line is not an event or the version is newer.
    """
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    end = data.rfind(b"\n") + 1
    return list(_decode_lines(path, data[:end], first=offset == 0)), offset + end


def _decode_lines(path: Path, data: bytes, *, first: bool) -> Iterator[Event]:
    for number, line in enumerate(data.splitlines(), 1):
        if number == 1 and first:
            check_header(path, line)
        try:
            yield decode(line)
        except JournalError as exc:
            where = f"line {number}" if first else "a new line"
            raise JournalError(
                f"{path}: {where} is damaged ({exc}); remove that line, or give the run a new name"
            ) from exc


def check_header(path: Path, line: bytes) -> None:
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


class Journal:
    """The writing side. `append` collects, `flush` writes; nothing may be acted on before it is flushed."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd
        self._unwritten = b""
        self._lines: list[str] = []
        self._unsynced = False
        self._syncing: threading.Thread | None = None
        self.trouble = ""
        """Why the last flush could not write everything; empty when it could."""

    @classmethod
    def open(cls, path: Path, run_name: str) -> tuple[Journal, list[Event]]:
        """Open for writing, creating it when absent, and replay it. The caller holds the run's lock."""
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = _drop_torn_tail(path)
        created = not path.exists() or path.stat().st_size == 0
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        journal = cls(path, fd)
        if created:
            header = JournalCreated(
                t=time.time(), version=FORMAT_VERSION, run_id=uuid.uuid4().hex[:16], run_name=run_name
            )
            journal.append([header])
            if not journal.flush():
                os.close(fd)
                raise JournalError(
                    f"cannot write {path}: {journal.trouble}; free some space or choose another --train_dir"
                )
        events, _ = read_journal(path)
        if torn:
            note = Note(
                t=time.time(),
                text=f"{path.name}: dropped {torn} bytes of an unfinished last line",
                level="info",
            )
            journal.append([note])
            events.append(note)
        return journal, events

    def append(self, events: Iterable[Event]) -> None:
        self._lines.extend(map(encode, events))

    def flush(self) -> bool:
        """Write what was appended; False (and `trouble`) when the disk takes no more: call again later."""
        if self._lines:
            self._unwritten += ("\n".join(self._lines) + "\n").encode()
            self._lines.clear()
        while self._unwritten:
            try:
                written = os.write(self._fd, self._unwritten)
            except OSError as exc:
                if exc.errno not in _DISK_TROUBLE:
                    raise
                self.trouble = exc.strerror or str(exc)
                return False
            self._unwritten = self._unwritten[written:]
            self._unsynced = True
        self.trouble = ""
        return True

    def sync_soon(self) -> None:
        """Have everything written so far put on the disk (to survive a power cut) without waiting for it."""
        if self._unsynced and (self._syncing is None or not self._syncing.is_alive()):
            self._unsynced = False
            self._syncing = threading.Thread(target=self._sync, name="journal-sync", daemon=True)
            self._syncing.start()

    def _sync(self) -> None:
        with contextlib.suppress(OSError):  # a write will meet the same trouble and tell it
            (os.fdatasync if hasattr(os, "fdatasync") else os.fsync)(self._fd)

    def close(self) -> None:
        self.flush()
        if self._syncing is not None:
            self._syncing.join()
        self._sync()
        os.close(self._fd)


def _drop_torn_tail(path: Path) -> int:
    """Cut a last line that lacks its newline; the number of bytes dropped."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return 0
    if size == 0:
        return 0
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return 0
        file.seek(0)
        end = file.read().rfind(b"\n") + 1
        file.truncate(end)
    return size - end
