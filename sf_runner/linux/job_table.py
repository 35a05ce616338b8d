"""The jobs a process is the parent of, in memory that it shares with the process that would inherit them.

If the parent is killed, its children go to another process. That process reads here which job each of them is, also of
those that have ended already: the environment of a zombie cannot be read. One writer; what is read while the writer
lives may be out of date. Standard library only.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_WRITER = struct.Struct("=i")
_HEADER = slice(8, 16)  # one number: which half is valid, how many bytes of it
_AT_HALVES = 16
_ENTRY = struct.Struct("=iI")  # pid (negative: forget it; 0: about to be started), length of the note
_HALF = 1 << 18


@dataclass(frozen=True, kw_only=True, slots=True)
class JobNote:
    """What its parent has to know of an attempt. Paths are absolute.

    When it started: `started` is unix time, for people; `up` counts from boot, as process start times do; `steady` is
    of the steady clock."""

    job: str
    attempt: int
    tag: str
    log: str
    exit_record: str
    started: float
    up: float
    steady: float


class JobTable:
    """A log of starts and ends; compacted into the other half of the memory when it is full.

    It holds some thousands of live jobs; beyond that jobs are recognised by their environment only.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _AT_HALVES + 2 * _HALF)
        self._header = memoryview(self._memory)[_HEADER].cast("Q")
        self._half = self._end = 0
        self._live: dict[int, bytes] = {}
        self._expected = b""

    def claim(self) -> None:
        """This process is the writer from now on."""
        _WRITER.pack_into(self._memory, 0, os.getpid())

    @property
    def writer(self) -> int:
        """Pid of the process that writes or wrote it; 0: nobody has."""
        return int(_WRITER.unpack_from(self._memory)[0])

    def expect(self, note: JobNote) -> None:
        """It is about to be started."""
        self._expected = _encode(note)
        if self._has_room(len(self._expected) + 2 * _ENTRY.size):  # for the pid too
            self._append(0, self._expected)
        else:
            self._expected = b""

    def started(self, pid: int) -> None:
        """The one that was expected last is that process."""
        if self._expected:
            self._live[pid] = self._expected
            self._append(pid, b"")
            self._expected = b""

    def forget(self, pid: int) -> None:
        """Its exit record is on disk."""
        if self._live.pop(pid, None) is not None and self._has_room(_ENTRY.size):
            self._append(-pid, b"")

    def clear(self) -> None:
        """Forget all. Only once the writer is dead."""
        self._live.clear()
        self._half = self._end = 0
        self._write_header()

    def read(self) -> tuple[dict[int, JobNote], JobNote | None]:
        """(live jobs by pid, the one that was being started if its pid is not known)."""
        live: dict[int, bytes] = {}
        expected = b""
        for pid, note in self._entries():
            if pid == 0:
                expected = note
            elif pid < 0:
                live.pop(-pid, None)
            else:
                live[pid], expected = (note, expected) if note else (expected, b"")
        notes = ((pid, _decode(note)) for pid, note in live.items())
        return {pid: note for pid, note in notes if note is not None}, _decode(expected)

    def _entries(self) -> Iterator[tuple[int, bytes]]:
        half, length = divmod(self._header[0], 1 << 32)
        at = _AT_HALVES + (half % 2) * _HALF
        end = at + min(length, _HALF)
        while at + _ENTRY.size <= end:
            pid, size = _ENTRY.unpack_from(self._memory, at)
            at += _ENTRY.size
            yield pid, self._memory[at : at + size]
            at += size

    def _append(self, pid: int, note: bytes) -> None:
        self._end = self._put(self._half, self._end, pid, note)
        self._write_header()

    def _has_room(self, size: int) -> bool:
        """Whether so many bytes can be appended, compacting if that helps."""
        if self._end + size <= _HALF:
            return True
        if sum(_ENTRY.size + len(note) for note in self._live.values()) + size > _HALF:
            return False
        half, end = 1 - self._half, 0
        for pid, note in self._live.items():
            end = self._put(half, end, pid, note)
        self._half, self._end = half, end
        self._write_header()
        return True

    def _put(self, half: int, at: int, pid: int, note: bytes) -> int:
        start = _AT_HALVES + half * _HALF + at
        _ENTRY.pack_into(self._memory, start, pid, len(note))
        self._memory[start + _ENTRY.size : start + _ENTRY.size + len(note)] = note
        return at + _ENTRY.size + len(note)

    def _write_header(self) -> None:
        """Last, and as one number, which no kill can leave half written: what is not counted in was never written."""
        self._header[0] = (self._half << 32) | self._end


def _encode(note: JobNote) -> bytes:
    times = (repr(note.started), repr(note.up), repr(note.steady))
    fields = (note.job, str(note.attempt), note.tag, note.log, note.exit_record, *times)
    return "\0".join(fields).encode("utf-8", "surrogateescape")


def _decode(text: bytes) -> JobNote | None:
    try:
        job, attempt, tag, log, record, *times = text.decode("utf-8", "surrogateescape").split("\0")
        started, up, steady = map(float, times)
    except ValueError:
        return None
    return JobNote(
        job=job, attempt=int(attempt), tag=tag, log=log, exit_record=record, started=started, up=up, steady=steady
    )
