"""What a process does for its GPU; nothing on other devices."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, cast

import torch

from sf_algo.buffers.shared import SharedBlock

log = logging.getLogger(__name__)

_FOR_ALL_GPUS = 1
"""cudaHostRegisterPortable: the lock holds for every GPU of the process, not only for the current one."""


def use_device(device: torch.device) -> None:
    """Makes it the one that torch takes where none is named."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def wait_for(device: torch.device) -> None:
    """Until everything that has been begun there is done."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


class LockedBlocks:
    """Blocks of shared memory that are locked in physical memory, so that GPUs copy from and to them by themselves,
    while the process goes on. Processes that share a block lock it each for itself."""

    def __init__(self, device: torch.device) -> None:
        """`device`: who shall copy. Nothing is locked for others than GPUs."""
        self._device = device
        self._addresses: list[int] = []
        self._refused = False

    def lock(self, blocks: Iterable[SharedBlock]) -> bool:
        """True when all these blocks are locked. Where the driver refuses, that is told once, and copies are slower."""
        return self._device.type == "cuda" and all(self._lock(*block.span) for block in blocks)

    def _lock(self, address: int, nbytes: int) -> bool:
        if address in self._addresses or self._refused:
            return address in self._addresses
        try:
            runtime = _runtime()
            status = int(runtime.cudaHostRegister(address, nbytes, _FOR_ALL_GPUS))
            why = f"error {status} of CUDA"
        except RuntimeError as error:
            status, why = -1, str(error).partition("\n")[0]
        if status == 0:
            self._addresses.append(address)
            return True
        self._refused = True
        self._forget_error()
        log.warning("cannot lock %d MiB of memory for the GPU (%s): copies are slower", nbytes >> 20, why)
        return False

    def release(self) -> None:
        """Before the memory is unmapped: another block may be mapped to the same place later. May be called twice."""
        addresses, self._addresses = self._addresses, []
        for address in addresses:
            with suppress(RuntimeError):
                if int(_runtime().cudaHostUnregister(address)) != 0:
                    self._forget_error()

    def _forget_error(self) -> None:
        """The runtime remembers the error of a call in this thread; torch would find it behind the next kernel, and
        blame that. So a kernel that nobody needs comes next."""
        with suppress(RuntimeError):
            torch.zeros(1, device=self._device)


def _runtime() -> Any:
    return cast(Any, torch.cuda).cudart()
