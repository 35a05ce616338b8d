"""Follows the journal of a run: each look reads only what was added since the look before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sf_runner.basics.errors import StorageError
from sf_runner.state.events import Event, JournalError, Note
from sf_runner.state.fold import RunState, replay
from sf_runner.state.mend import Mender
from sf_runner.store.reader import JournalReader, collection_paused
from sf_runner.store.state_cache import StateCache, state_cache_of

WORTH_A_CACHE = 2 << 20
"""Bytes of a journal that take so long to read (50 ms) that the state is left beside it for the next reader."""


class JournalFollower:
    """The state of a run, brought up to date from the bytes by which its journal has grown.

    A journal that was replaced by another one is read from its beginning.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = 0
        self._head = b""
        self.reader = JournalReader(path)
        self.state = RunState()
        self.cached_at = 0
        """Up to which byte the state is kept beside the journal."""
        self.mended: Note | None = None
        """What is to be told of a journal that two runners wrote at the same time."""
        self.trouble = ""
        """Why the journal cannot be read; empty when it can."""

    def catch_up(self) -> bool:
        """Bring `state` up to date; whether it was begun anew, because the journal was replaced by another one.

        The first time it goes on from the state that is kept beside the journal, if that fits. An empty journal is an
        empty state.

        Raises:
            StorageError: it cannot be read.
            JournalError: a line of it is damaged, or contradicts the lines before.
        """
        try:
            return self._advance(None)
        except OSError as exc:
            raise StorageError(self._why(exc)) from exc

    def events(self) -> list[Event]:
        """As `poll`; StorageError where it sets `trouble`."""
        events, _ = self.poll()
        if self.trouble:
            raise StorageError(self.trouble)
        return events

    def poll(self) -> tuple[list[Event], bool]:
        """(new events, already folded into `state`; whether `state` was begun anew). Sets `trouble`.

        Raises:
            JournalError: a line of it is damaged, or contradicts the lines before.
        """
        events: list[Event] = []
        before = self.state
        try:
            self._advance(events)
        except OSError as exc:
            self.trouble = self._why(exc)
            events = []
        else:
            self.trouble = ""
        return events, self.state is not before

    def _advance(self, events: list[Event] | None) -> bool:
        """Read on; the new events are kept in `events`, if given."""
        status = self._path.stat()
        position, before = self.reader.position, self.state
        if position.offset > 0 and self._is_another(status.st_ino, status.st_size):
            self.reader, self.state, self.cached_at = JournalReader(self._path), RunState(), 0
        elif status.st_size == position.offset:
            return False
        self._inode = status.st_ino
        self._head = self._head or self.reader.head()
        with collection_paused():
            self._read_on(events)
        return position.offset > 0 and self.state is not before

    def _is_another(self, inode: int, size: int) -> bool:
        """An inode may have been given to the file that took the place of the old one."""
        offset = self.reader.position.offset
        if inode != self._inode or size < offset:
            self._head = b""
            return True
        if size == offset or self.reader.head() == self._head:
            return False
        self._head = b""
        return True

    def _read_on(self, events: list[Event] | None) -> None:
        if events is None and not self.reader.position.offset:
            cached = StateCache(state_cache_of(self._path)).load(self.reader)
            if cached is not None:
                self.state, self.cached_at = cached, self.reader.position.offset
        try:
            replay(self._new(events), self._path, self.state, lines_before=self.reader.position.lines)
        except JournalError as exc:
            self._mend(exc)
            if events is not None:
                events.clear()
        if events is None and self.reader.position.offset - self.cached_at >= WORTH_A_CACHE:
            self._leave_state()

    def _mend(self, fault: JournalError) -> None:
        """Begin anew with what makes sense of a journal that two runners wrote; `fault` where it is none."""
        reader, mender = JournalReader(self._path), Mender()
        # Whatever else is wrong with it: the fault that was met first is told.
        try:
            for event in reader.events(mender.damaged):
                mender.apply(event, reader.position.lines)
        except (JournalError, AssertionError, LookupError, TypeError, AttributeError, ValueError):
            raise fault from None
        if not mender.of_two_writers:
            raise fault
        self.reader, self.state, self.cached_at = reader, mender.state, 0
        self.mended = mender.note(self._path)
        self.state.apply(self.mended)

    def _new(self, events: list[Event] | None) -> Iterator[Event]:
        for event in self.reader.events():
            if events is not None:
                events.append(event)
            yield event

    def _leave_state(self) -> None:
        """For the next reader. What was written meanwhile is left to it as well."""
        status = self._path.stat()
        if self._head and self.reader.head() == self._head:  # asked last: it is still the file that was read
            StateCache(state_cache_of(self._path)).save(self.state, self.reader.position, self._head, status)
            self.cached_at = self.reader.position.offset

    def _why(self, exc: OSError) -> str:
        if isinstance(exc, FileNotFoundError) and not self.reader.position.offset:
            return f"run '{self._path.parent.parent.name}' has no journal yet ({self._path})"
        return f"cannot read {self._path}: {exc.strerror}"
