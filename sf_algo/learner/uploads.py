"""Batches on their way to the learner's device. The next one is copied while the current one is trained on: on a GPU by
a stream of its own, so that the copy waits for no kernel and no kernel for the copy, but those that read it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from sf_algo.learner.batch import TrajectoryBatch


class Copies(Protocol):
    """Where copies to a device are queued."""

    def using(self) -> Any:
        """Inside this context, copies that are begun are queued here."""

    def mark(self) -> Any:
        """The moment at which all that has been queued so far is done."""

    def hand_over(self, mark: Any, tensors: Sequence[Tensor]) -> None:
        """What the device is told from now on comes behind `mark`. The memory of `tensors`, which were copied here, is
        not used for anything else before what reads them is done."""

    def wait(self, mark: Any) -> None:
        """Until `mark`."""


class PlainCopies:
    """Devices that do one thing after the other."""

    def using(self) -> Any:
        return nullcontext()

    def mark(self) -> Any:
        return None

    def hand_over(self, mark: Any, tensors: Sequence[Tensor]) -> None:
        pass

    def wait(self, mark: Any) -> None:
        pass


class StreamedCopies:
    """A stream of a GPU for copies alone."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = cast(Any, torch.cuda).Stream(device)

    def using(self) -> Any:
        return torch.cuda.stream(self._stream)

    def mark(self) -> Any:
        event = cast(Any, torch.cuda).Event()
        event.record(self._stream)
        return event

    def hand_over(self, mark: Any, tensors: Sequence[Tensor]) -> None:
        reads = cast(Any, torch.cuda).current_stream(self._device)
        reads.wait_event(mark)
        for tensor in tensors:
            tensor.record_stream(reads)

    def wait(self, mark: Any) -> None:
        mark.synchronize()


class BatchUploads:
    """See the module. One batch at a time is ahead of the one in training."""

    def __init__(self, device: torch.device, copies: Copies | None = None) -> None:
        """`copies`: by default what suits the device."""
        self._device = device
        self._copies = copies or (StreamedCopies(device) if device.type == "cuda" else PlainCopies())
        self._ahead: tuple[TrajectoryBatch, TrajectoryBatch, Any] | None = None

    def begin(self, batch: TrajectoryBatch) -> None:
        """Starts copying a batch in host memory, which is not to be changed until it has been taken and read, or
        dropped. Does nothing while another one is ahead."""
        if self._ahead is None:
            self._ahead = (batch, *self._copy(batch))

    def take(self, batch: TrajectoryBatch) -> TrajectoryBatch:
        """The batch on the device. The host memory is free when anything that was computed from it is there."""
        there, mark = self._begun(batch) or self._copy(batch)
        self._copies.hand_over(mark, there.tensors())
        return there

    def drop(self, batch: TrajectoryBatch) -> None:
        """The batch is not needed on the device. Its host memory is free when this returns."""
        begun = self._begun(batch)
        if begun is not None:
            self._copies.wait(begun[1])

    def _begun(self, batch: TrajectoryBatch) -> tuple[TrajectoryBatch, Any] | None:
        if self._ahead is None or self._ahead[0] is not batch:
            return None
        _, there, mark = self._ahead
        self._ahead = None
        return there, mark

    def _copy(self, batch: TrajectoryBatch) -> tuple[TrajectoryBatch, Any]:
        with self._copies.using():
            return batch.to(self._device), self._copies.mark()
