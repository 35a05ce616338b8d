"""Tensorboard's event files, written directly.

The format is small: length-delimited records, each a protocol-buffer message with a checksum. Writing it
here costs no import (tensorboard's own writer takes a quarter of a second, a thread, and keeps silent about
a full disk). Sources: tensorflow's ``event.proto``, ``summary.proto`` and ``record_writer.cc``.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

_FILE_VERSION = b"brain.Event:2"
_SESSION_START = 1
_STRING_TYPE = 7  # of a tensor


def _make_crc_table() -> tuple[int, ...]:
    """Table of CRC-32C (Castagnoli), reflected polynomial 0x82F63B78."""
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC_TABLE = _make_crc_table()


def _masked_crc(data: bytes) -> int:
    """CRC-32C, rotated and offset as the record format wants it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _varint(number: int) -> bytes:
    out = bytearray()
    number &= 0xFFFFFFFFFFFFFFFF
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _bytes_field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint_field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _event(wall_time: float, step: int, payload: bytes) -> bytes:
    return b"\x09" + struct.pack("<d", wall_time) + _varint_field(2, step) + payload


def _scalars(values: Mapping[str, float]) -> bytes:
    summary = b"".join(
        _bytes_field(1, _bytes_field(1, tag.encode()) + b"\x15" + struct.pack("<f", value))
        for tag, value in values.items()
    )
    return _bytes_field(5, summary)


def _text(tag: str, text: str) -> bytes:
    """A string tensor for tensorboard's text plugin, which shows Markdown."""
    plugin = _bytes_field(1, _bytes_field(1, b"text"))
    shape = _bytes_field(2, _varint_field(1, 1))
    tensor = _varint_field(1, _STRING_TYPE) + _bytes_field(2, shape) + _bytes_field(8, text.encode())
    value = _bytes_field(1, tag.encode()) + _bytes_field(8, tensor) + _bytes_field(9, plugin)
    return _bytes_field(5, _bytes_field(1, value))


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    crcs = struct.pack("<I", _masked_crc(length)), struct.pack("<I", _masked_crc(data))
    return length + crcs[0] + data + crcs[1]


class EventFileWriter:
    """Appends scalars to one new event file in `folder`. Every write reaches the file before the call
    returns.

    `resume_step` makes tensorboard drop what earlier files in the folder hold from that step on: a resumed
    training starts from its checkpoint, which is older than the last summary.
    """

    def __init__(self, folder: Path, *, wall_time: float, resume_step: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"events.out.tfevents.{int(wall_time):010d}.{socket.gethostname()}.{os.getpid()}"
        number = 0
        while (path := folder / f"{stem}.{number}").exists():
            number += 1
        self.path = path
        self._file = path.open("wb", buffering=0)
        self._append(_event(wall_time, 0, _bytes_field(3, _FILE_VERSION)))
        if resume_step is not None:
            start = _bytes_field(7, _varint_field(1, _SESSION_START))
            self._append(_event(wall_time, resume_step, start))

    def add_scalars(self, values: Mapping[str, float], *, step: int, wall_time: float) -> None:
        """Writes all values as one event. Raises OSError; the file then ends with its last whole record."""
        if values:
            self._append(_event(wall_time, step, _scalars(values)))

    def add_text(self, tag: str, text: str, *, step: int, wall_time: float) -> None:
        """Writes Markdown. Raises OSError as `add_scalars`."""
        self._append(_event(wall_time, step, _text(tag, text)))

    def _append(self, data: bytes) -> None:
        record = memoryview(_record(data))
        begin = self._file.tell()
        try:
            while record:
                record = record[self._file.write(record) or 0 :]
        except OSError:
            self._file.truncate(begin)
            self._file.seek(begin)
            raise

    def close(self) -> None:
        self._file.close()
