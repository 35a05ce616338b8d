"""A learner's state, handed over in an anonymous file that two processes share."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import Any

import torch


def write_state(fd: int, data: bytes) -> int:
    """Replaces the contents of the shared file; returns its size."""
    os.ftruncate(fd, len(data))
    written = 0
    while written < len(data):
        written += os.pwrite(fd, memoryview(data)[written:], written)
    return written


def read_state(fd: int, nbytes: int) -> Mapping[str, Any]:
    """A learner's state from the shared file."""
    chunks, offset = [], 0
    while offset < nbytes:
        chunk = os.pread(fd, nbytes - offset, offset)
        assert chunk, "the state is shorter than announced"
        chunks.append(chunk)
        offset += len(chunk)
    state: Mapping[str, Any] = torch.load(io.BytesIO(b"".join(chunks)), weights_only=True)
    return state
