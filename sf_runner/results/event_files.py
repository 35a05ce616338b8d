"""Scalars in tensorboard's event files.

Tensorboard's own loader verifies checksums byte by byte in Python and converts every value to a tensor: 3.9 s of CPU
time for the files of one experiment that trained for a day (4,320 events of 40 scalars). Taking the records apart here
and decoding them with tensorboard's protocol-buffer classes takes 0.1 s and gives the same numbers. Format: a record is
length (u64), checksum of the length (u32), data, checksum of the data (u32), all little-endian
(tensorflow/core/lib/io/record_writer.cc).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sf_runner.board.find import is_event_file
from sf_runner.results.curves import Segment

_LENGTH = struct.Struct("<Q")
_HEADER_BYTES = 12
_CHECKSUM_BYTES = 4
_MAX_RECORD_BYTES = 4 << 20
_FIRST_EVENTS = 40
_LAST_EVENTS = 120
_SESSION_START = 1


def event_files(folder: Path) -> list[Path]:
    """Event files in `folder` in the order they were begun: their names hold the time."""
    try:
        return sorted(path for path in folder.iterdir() if is_event_file(path.name) and path.is_file())
    except OSError:
        return []


def tags_in(folder: Path) -> set[str]:
    """Names of scalars in the first and last events of every file in `folder`: one that is written seldom may be
    missing."""
    names: set[str] = set()
    for path in event_files(folder):
        records = list(_records(path))
        for record in dict.fromkeys([*records[:_FIRST_EVENTS], *records[-_LAST_EVENTS:]]):
            event = _decode(record)
            if event is not None:
                names.update(value.tag for value in event.summary.value if _scalar(value) is not None)
    return names


def read_scalars(folder: Path, tags: Iterable[str]) -> dict[str, list[Segment]]:
    """Values of `tags` as they were written: a segment per file, and one per restart that a file tells of.

    Damaged or torn records end a file; tags that do not occur are missing from the result.
    """
    wanted = {tag: tag.encode() for tag in tags}
    found: dict[str, list[Segment]] = {}
    for path in event_files(folder):
        for tag, segments in _read_file(path, wanted).items():
            found.setdefault(tag, []).extend(segments)
    return {tag: segments for tag, segments in found.items() if any(len(segment.steps) for segment in segments)}


def _read_file(path: Path, wanted: dict[str, bytes]) -> dict[str, list[Segment]]:
    parts = {tag: [_Part()] for tag in wanted}
    needles = list(wanted.values())
    for record in _records(path):
        # Most events hold none of the tags, or are seen not to be a session's start by their size.
        if len(record) > 40 and not any(needle in record for needle in needles):
            continue
        event = _decode(record)
        if event is None:
            continue
        if event.HasField("session_log") and event.session_log.status == _SESSION_START:
            for started in parts.values():
                started.append(_Part(start_step=float(event.step), begin_unix_s=event.wall_time))
        elif event.file_version:
            for started in parts.values():
                started[-1].begin_unix_s = event.wall_time
        for value in event.summary.value:
            if value.tag in parts and (number := _scalar(value)) is not None:
                parts[value.tag][-1].add(event.step, number, event.wall_time)
    found = {}
    for tag, listed in parts.items():
        if segments := [part.segment() for part in listed if part.steps or part.start_step is not None]:
            found[tag] = segments
    return found


class _Part:
    def __init__(self, *, start_step: float | None = None, begin_unix_s: float | None = None) -> None:
        self.start_step = start_step
        self.begin_unix_s = begin_unix_s
        self.steps: list[int] = []
        self.values: list[float] = []
        self.times: list[float] = []

    def add(self, step: int, value: float, time_unix_s: float) -> None:
        self.steps.append(step)
        self.values.append(value)
        self.times.append(time_unix_s)

    def segment(self) -> Segment:
        return Segment(
            start_step=self.start_step,
            begin_unix_s=self.begin_unix_s,
            steps=np.array(self.steps, dtype=np.float64),
            values=np.array(self.values, dtype=np.float64),
            times_unix_s=np.array(self.times, dtype=np.float64),
        )


def _records(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb", buffering=1 << 20) as file:
            while len(header := file.read(_HEADER_BYTES)) == _HEADER_BYTES:
                (length,) = _LENGTH.unpack_from(header)
                if length > _MAX_RECORD_BYTES:  # images, or damage: then the end of the file is met
                    file.seek(min(length, 1 << 62) + _CHECKSUM_BYTES, os.SEEK_CUR)
                    continue
                data = file.read(length)
                if len(data) < length or len(file.read(_CHECKSUM_BYTES)) < _CHECKSUM_BYTES:
                    return
                yield data
    except OSError:
        return


def _decode(record: bytes) -> Any | None:
    """The event, None when it is damaged."""
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    try:
        return Event.FromString(record)
    except DecodeError:
        return None


def _scalar(value: Any) -> float | None:
    """The number in a summary value, None when it is something else (a histogram, an image)."""
    kind = value.WhichOneof("value")
    if kind == "simple_value":
        return float(value.simple_value)
    if kind != "tensor" or value.metadata.plugin_data.plugin_name not in ("scalars", ""):
        return None
    tensor = value.tensor
    if tensor.float_val:
        return float(tensor.float_val[0]) if len(tensor.float_val) == 1 else None
    if tensor.double_val:
        return float(tensor.double_val[0]) if len(tensor.double_val) == 1 else None
    formats = {1: "<f4", 2: "<f8"}  # DT_FLOAT, DT_DOUBLE
    if tensor.dtype in formats and tensor.tensor_content:
        numbers = np.frombuffer(tensor.tensor_content, dtype=formats[tensor.dtype])
        return float(numbers[0]) if numbers.size == 1 else None
    return None
