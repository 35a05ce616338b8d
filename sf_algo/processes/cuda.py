"""What a process does for its GPU; nothing on other devices."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, cast

import torch
from numpy.typing import NDArray

log = logging.getLogger(__name__)


def use_device(device: torch.device) -> None:
    """Makes it the one that torch takes where none is named."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def wait_for(device: torch.device) -> None:
    """Until everything that has been begun there is done."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


def pin(arrays: Iterable[NDArray[Any]], device: torch.device) -> bool:
    """Locks the memory of these arrays, so that the GPU copies from and to it by itself, while this process goes on. A
    block of shared memory has to be locked in every process by itself. False where the driver refuses: copies are
    slower then."""
    if device.type != "cuda":
        return False
    runtime = cast(Any, torch.cuda).cudart()
    for start, nbytes in _spans(arrays):
        status = runtime.cudaHostRegister(start, nbytes, 0)
        if int(status) != 0:
            log.warning("cannot lock %d MiB of memory for the GPU (%s): copies are slower", nbytes >> 20, status)
            return False
    return True


def _spans(arrays: Iterable[NDArray[Any]]) -> list[tuple[int, int]]:
    """Where the memory of these arrays begins and its size, arrays side by side (up to a page apart) as one."""
    pieces = sorted((array.ctypes.data, array.nbytes) for array in arrays if array.nbytes)
    spans: list[tuple[int, int]] = []
    for start, nbytes in pieces:
        if spans and start <= spans[-1][0] + spans[-1][1] + _PAGE:
            first = spans[-1][0]
            spans[-1] = (first, max(spans[-1][1], start + nbytes - first))
        else:
            spans.append((start, nbytes))
    return spans


_PAGE = 4096
