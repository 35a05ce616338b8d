"""A learner's state, handed over in an anonymous file that two processes share."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import torch


class PackedState(Mapping[str, Any]):
    """The state of a learner as another process has packed it. It is unpacked when somebody first looks inside, in that
    thread; whoever only passes it on moves bytes. Not for several threads at a time."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    @cached_property
    def _contents(self) -> Mapping[str, Any]:
        contents: Mapping[str, Any] = torch.load(io.BytesIO(self.data), weights_only=True)
        return contents

    def __getitem__(self, name: str) -> Any:
        return self._contents[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._contents)

    def __len__(self) -> int:
        return len(self._contents)


def packed(state: Mapping[str, Any]) -> bytes:
    """What `PackedState` unpacks. Tensors are in host memory."""
    if isinstance(state, PackedState):
        return state.data
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()


def write_state(fd: int, state: Mapping[str, Any]) -> int:
    """Replaces the contents of the shared file; returns its size."""
    data = memoryview(packed(state))
    os.ftruncate(fd, len(data))
    written = 0
    while written < len(data):
        written += os.pwrite(fd, data[written:], written)
    return written


def read_state(fd: int, nbytes: int) -> PackedState:
    """A learner's state from the shared file, which may be overwritten afterwards."""
    chunks, offset = [], 0
    while offset < nbytes:
        chunk = os.pread(fd, nbytes - offset, offset)
        assert chunk, "the state is shorter than announced"
        chunks.append(chunk)
        offset += len(chunk)
    return PackedState(b"".join(chunks))
