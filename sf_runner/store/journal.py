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
from collections.abc import Iterable, Iterator
from pathlib import Path

from sf_runner.state.events import FORMAT_VERSION, Event, JournalCreated, JournalError, Note, decode, encode

_DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG, errno.ESTALE, errno.ETIMEDOUT)
_HEADER_START = b'{"e":"journal"'


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
    lines = data.decode("utf-8", "surrogateescape").split("\n")[:-1]
    if first and lines:
        check_header(path, lines[0])
    for number, line in enumerate(lines, 1):
        try:
            yield decode(line)
        except JournalError as exc:
            where = f"line {number}" if first else "a new line"
            raise JournalError(
                f"{path}: {where} is damaged ({exc}); remove that line, or give the run a new name"
            ) from exc


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


class Journal:
    """The writing side. `append` collects, `flush` writes; nothing may be acted on before it is flushed."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd
        self._unwritten = b""
        self._lines: list[str] = []
        self._unsynced = False
        self._syncing: threading.Thread | None = None
        self.torn: Note | None = None
        """What was done about a torn last line when it was opened."""
        self.trouble = ""
        """Why the last flush could not write everything; empty when it could."""

    @classmethod
    def open(cls, path: Path, run_name: str) -> tuple[Journal, list[Event]]:
        """Open for writing, creating it when absent, and read it. The caller holds the run's lock.

        Raises JournalError for a file that is not a readable journal (it is left as it is) or cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = _drop_torn_tail(path)
        journal = cls(path, os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644))
        try:
            events, _ = read_journal(path)
            if not events:
                events = journal._begin(run_name)
        except BaseException:
            os.close(journal._fd)
            raise
        if torn:
            text = f"{path.name}: dropped {torn} bytes of an unfinished last line"
            note = Note(t=time.time(), text=text, level="info")
            journal.append([note])
            events.append(note)
            journal.torn = note
        return journal, events

    def _begin(self, run_name: str) -> list[Event]:
        header = JournalCreated(t=time.time(), version=FORMAT_VERSION, run_id=os.urandom(8).hex(), run_name=run_name)
        self.append([header])
        if not self.flush():
            raise JournalError(
                f"cannot write {self.path}: {self.trouble}; free some space or choose another --train_dir"
            )
        return [header]

    def append(self, events: Iterable[Event]) -> None:
        self._lines.extend(map(encode, events))

    def flush(self) -> bool:
        """Write what was appended; False (and `trouble`) when the disk takes no more: call again later."""
        while self._unwritten or self._lines:
            if not self._unwritten:
                self._unwritten = ("\n".join(self._lines) + "\n").encode()
                self._lines.clear()
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
    """Cut a last line that lacks its newline; the number of bytes dropped. Never touches what is not a journal."""
    try:
        with path.open("rb+") as file:
            data = file.read()
            end = data.rfind(b"\n") + 1
            if end == len(data):
                return 0
            if end:
                check_header(path, data[: data.index(b"\n")])
            elif data[: len(_HEADER_START)] != _HEADER_START[: len(data)]:
                check_header(path, data)
            file.truncate(end)
            return len(data) - end
    except FileNotFoundError:
        return 0
