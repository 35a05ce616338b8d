"""The append-only journal: one writer, guarded by a file lock; any number of readers.

Guarantees: events are on their way to disk in the order appended; a line torn by a crash is dropped at the next open
(it was never acknowledged to anybody); a full disk loses nothing, the unwritten bytes are kept and written later.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar
from zlib import crc32

from sf_runner.basics.tail import lines_back
from sf_runner.state.events import (
    FORMAT_VERSION,
    Event,
    JobsChanged,
    JobsPlanned,
    JournalCreated,
    JournalError,
    Note,
    encode,
)
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import JournalLine
from sf_runner.store.follower import WORTH_A_CACHE, JournalFollower
from sf_runner.store.reader import check_header
from sf_runner.store.state_cache import StateCache, state_cache_of

_DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG, errno.ESTALE, errno.ETIMEDOUT)
_HEADER_START = b'{"e":"journal"'
_HEADER_BYTES = 1 << 16
CACHE_EVERY = 8 << 20
"""Bytes that a reader has to read at most of a run that goes on; a quarter of a second."""

Described = TypeVar("Described", bound=JobsPlanned | JobsChanged)


class Journal:
    """The writing side. `append` collects, `flush` writes; nothing may be acted on before it is flushed."""

    def __init__(self, path: Path, fd: int, read: JournalFollower) -> None:
        self.path = path
        self._fd = fd
        self._reader = read.reader
        self._unwritten = b""
        self._lines: list[str] = []
        self._unsynced = False
        self._syncing: threading.Thread | None = None
        self._cached_at = read.cached_at
        self._caching: threading.Thread | None = None
        self.given_up = False
        self.torn: Note | None = None
        """What was done about a torn last line when it was opened."""
        self.mended = read.mended
        """What is to be told of a journal that two runners wrote at the same time."""
        self.trouble = ""
        """Why the last flush could not write everything; empty when it could."""

    @classmethod
    def open(cls, path: Path, run_name: str) -> tuple[Journal, RunState]:
        """Open for writing, creating it when absent; the state of the run it tells of. The caller holds the run's lock.

        Raises JournalError for a file that is not a readable journal (it is left as it is) or cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = _drop_torn_tail(path)
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            read = JournalFollower(path)
            read.catch_up()
            journal = cls(path, fd, read)
            if not read.reader.position.offset:
                journal._begin(run_name, read.state)
        except BaseException:
            os.close(fd)
            raise
        if torn:
            text = f"{path.name}: dropped {torn} bytes of an unfinished last line"
            journal.torn = Note(t=time.time(), text=text, level="info")
            journal.append([journal.torn])
            read.state.apply(journal.torn)
        return journal, read.state

    def _begin(self, run_name: str, state: RunState) -> None:
        header = JournalCreated(t=time.time(), version=FORMAT_VERSION, run_id=os.urandom(8).hex(), run_name=run_name)
        self.append([header])
        if not self.flush():
            raise JournalError(
                f"cannot write {self.path}: {self.trouble}; free some space or choose another --train_dir"
            )
        state.apply(header)

    def append(self, events: Iterable[Event]) -> None:
        if not self.given_up:
            self._lines.extend(map(encode, events))

    def give_up(self) -> None:
        """Write nothing any more: the run is another runner's now."""
        self.given_up = True
        self._lines.clear()
        self._unwritten = b""

    def located(self, event: Described) -> Described:
        """The event, which is appended next, with the place where it will stand. Flushes what was appended before."""
        if not self.flush():
            return event
        return replace(event, line=JournalLine(self._reader.entries, self._reader.position.offset))

    def flush(self) -> bool:
        """Write what was appended; False (and `trouble`) when the disk takes no more: call again later."""
        while self._unwritten or self._lines:
            if not self._unwritten:
                self._reader.position.lines += len(self._lines)
                self._unwritten = ("\n".join(self._lines) + "\n").encode()
                self._lines.clear()
            try:
                written = os.write(self._fd, self._unwritten)
            except OSError as exc:
                if exc.errno not in _DISK_TROUBLE:
                    raise
                self.trouble = exc.strerror or str(exc)
                return False
            position = self._reader.position
            position.crc = crc32(self._unwritten[:written], position.crc)
            position.offset += written
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
            os.fdatasync(self._fd)

    def cache(self, state: RunState, *, every: int = CACHE_EVERY) -> None:
        """Leave the state beside the journal for readers, when it has grown by `every` bytes since the last time.

        `state` is that after everything appended. The disk is written in the background.
        """
        position = self._reader.position
        if position.offset - self._cached_at < every or self._unwritten or self._lines:
            return
        if self._caching is not None and self._caching.is_alive():
            return
        head = self._reader.head()
        try:
            status = os.fstat(self._fd)
        except OSError:
            return
        if not head or status.st_size != position.offset:  # somebody else writes, too: what a reader finds is not this
            return
        self._cached_at = position.offset
        cache = StateCache(state_cache_of(self.path))
        self._caching = cache.save_soon(state, position, head, status)

    def close(self, state: RunState | None = None) -> None:
        """`state`: as of `cache`, for the readers of a run that has ended."""
        if self.flush() and state is not None:
            if self._caching is not None:
                self._caching.join()
            self.cache(state, every=WORTH_A_CACHE)
        for thread in (self._syncing, self._caching):
            if thread is not None:
                thread.join()
        self._sync()
        os.close(self._fd)


def _drop_torn_tail(path: Path) -> int:
    """Cut a last line that lacks its newline; the number of bytes dropped. Never touches what is not a journal."""
    try:
        with path.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            end = lines_back(file.fileno(), size, 1)
            if end == size:
                return 0
            file.seek(0)
            first = file.readline(_HEADER_BYTES)
            if end or first[: len(_HEADER_START)] != _HEADER_START[: len(first)]:
                check_header(path, first)
            file.truncate(end)
            return size - end
    except FileNotFoundError:
        return 0
