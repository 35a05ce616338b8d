"""Follows the journal of a run: each look reads only what was added since the look before."""

from __future__ import annotations

from pathlib import Path

from sf_runner.basics.errors import StorageError
from sf_runner.state.events import Event
from sf_runner.state.fold import RunState, replay
from sf_runner.store.journal import read_journal


class JournalFollower:
    """The state of a run, brought up to date from the bytes by which its journal has grown.

    A journal that was replaced by another one is read from its beginning.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = self._lines = self._inode = 0
        self.state = RunState()
        self.trouble = ""
        """Why the journal cannot be read; empty when it can."""

    def events(self) -> list[Event]:
        """As `poll`, for a command that cannot go on without the journal.

        Raises:
            StorageError: it cannot be read.
            JournalError: a line of it is damaged, or contradicts the lines before.
        """
        events, _ = self.poll()
        if self.trouble:
            raise StorageError(self.trouble)
        return events

    def events_or_anew(self) -> bool:
        """As `events`; whether `state` was begun anew, because the journal was replaced by another one."""
        _, replaced = self.poll()
        if self.trouble:
            raise StorageError(self.trouble)
        return replaced

    def poll(self) -> tuple[list[Event], bool]:
        """(new events, already folded into `state`; whether `state` was begun anew). Sets `trouble`.

        Raises:
            JournalError: a line of it is damaged, or contradicts the lines before.
        """
        replaced = False
        try:
            status = self._path.stat()
            replaced = self._offset > 0 and (status.st_ino != self._inode or status.st_size < self._offset)
            if replaced:
                self._offset, self._lines, self.state = 0, 0, RunState()
            self._inode = status.st_ino
            events: list[Event] = []
            if status.st_size > self._offset:
                events, self._offset = read_journal(self._path, offset=self._offset)
        except OSError as exc:
            self.trouble = self._why(exc)
            return [], replaced
        self.trouble = ""
        replay(events, self._path, self.state, lines_before=self._lines)
        self._lines += len(events)
        return events, replaced

    def _why(self, exc: OSError) -> str:
        if isinstance(exc, FileNotFoundError) and not self._offset:
            return f"run '{self._path.parent.parent.name}' has no journal yet ({self._path})"
        return f"cannot read {self._path}: {exc.strerror}"
