"""Rare messages between processes: finished episodes, faults, commands. One JSON document a line on a
pipe."""

from __future__ import annotations

import json
import os
import select
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any, TypeAlias

Message: TypeAlias = dict[str, Any]
"""A JSON object; `kind` says what it is."""

_CHUNK_BYTES = 1 << 16


class MessageWriter:
    """The sending end. Blocks while the pipe is full, so nothing is lost and nothing grows."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def send(self, message: Message) -> None:
        data = memoryview(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        while data:
            data = data[os.write(self._fd, data) :]

    def close(self) -> None:
        with suppress(OSError):
            os.close(self._fd)


class MessageReader:
    """The receiving end; never blocks."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.closed = False
        os.set_blocking(fd, False)
        self._rest = b""

    def read(self) -> list[Message]:
        """All complete messages that have arrived. `closed` turns True when the writer is gone."""
        while not self.closed:
            try:
                data = os.read(self.fd, _CHUNK_BYTES)
            except BlockingIOError:
                break
            if not data:
                self.closed = True
            self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        self.closed = True
        with suppress(OSError):
            os.close(self.fd)


class UrgentFirst:
    """The messages that arrive on a pipe, until the writer is gone and all have been dealt with. Those of the kinds
    `patient` wait while there are others; otherwise the order stays. Going on waits where there are none."""

    def __init__(self, fd: int, *, patient: Collection[str]) -> None:
        self._reader = MessageReader(fd)
        self._patient = patient
        self._waiting: deque[Message] = deque()

    def __iter__(self) -> Iterator[Message]:
        return self

    def __next__(self) -> Message:
        waiting = self._waiting
        while True:
            if not waiting and not self._reader.closed:
                select.select([self._reader.fd], [], [])
            waiting.extend(self._reader.read())
            if waiting:
                break
            if self._reader.closed:
                raise StopIteration
        chosen = next((index for index, message in enumerate(waiting) if message["kind"] not in self._patient), 0)
        message = waiting[chosen]
        del waiting[chosen]
        return message

    def coming(self, kind: str) -> Message | None:
        """The first message of that kind that has arrived and waits. It stays where it is."""
        self._waiting.extend(self._reader.read())
        return next((message for message in self._waiting if message["kind"] == kind), None)
