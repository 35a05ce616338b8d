"""The control block: one small piece of shared memory with every counter that workers, inference and
supervision exchange. Each word has one writer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from sf_algo.buffers.shared import ArraySpec, SharedBlock
from sf_algo.buffers.slots import SlotRing
from sf_algo.ipc.mailbox import Mailbox

_PER_SPLIT = ("filled", "freed", "requested", "served", "row")
_PER_WORKER = ("phase", "since_ns", "env_index", "stepping_ns", "waiting_ns", "loop_ns")
_INT64 = np.dtype(np.int64)


class WorkerPhase(IntEnum):
    """What a worker is doing; how long it may take depends on it."""

    STARTING = 0
    """The process starts; nothing of ours runs yet."""
    RESETTING = 1
    """An environment is made or reset."""
    STEPPING = 2
    """An environment steps."""
    WAITING = 3
    """All splits wait, for actions or for free slots."""
    DONE = 4
    """The worker has said goodbye."""


@dataclass(frozen=True)
class WorkerStatus:
    """A worker's sign of life, written by the worker (and by the main process before the worker starts)."""

    phases: memoryview[int]
    since: memoryview[int]
    env_indices: memoryview[int]
    stepping_ns: memoryview[int]
    waiting_ns: memoryview[int]
    loop_ns: memoryview[int]
    worker: int

    def set_phase(self, phase: WorkerPhase, env_index: int = -1) -> None:
        self.env_indices[self.worker] = env_index
        self.since[self.worker] = time.monotonic_ns()
        self.phases[self.worker] = phase

    @property
    def phase(self) -> WorkerPhase:
        return WorkerPhase(self.phases[self.worker])

    @property
    def seen_at(self) -> float:
        """The last sign of life on the monotonic clock, in s; meaningless while WAITING."""
        return self.since[self.worker] / 1e9

    def add_times(self, *, stepping_ns: int, waiting_ns: int, loop_ns: int) -> None:
        """Worker: time spent stepping environments, waiting, and altogether since the last call."""
        self.stepping_ns[self.worker] += stepping_ns
        self.waiting_ns[self.worker] += waiting_ns
        self.loop_ns[self.worker] += loop_ns

    @property
    def times_s(self) -> tuple[float, float]:
        """Stepping environments, and all else but waiting, since the workers began."""
        stepping = self.stepping_ns[self.worker]
        other = self.loop_ns[self.worker] - self.waiting_ns[self.worker] - stepping
        return stepping / 1e9, max(0, other) / 1e9

    @property
    def env_index(self) -> int:
        """The environment being reset or stepped, -1 for none."""
        return self.env_indices[self.worker]


class ControlBlock:
    """Mailboxes, slot rings and signs of life of all workers, and the order to stop."""

    def __init__(self, block: SharedBlock, *, num_workers: int, num_splits: int, num_slots: int) -> None:
        """`num_splits` per worker, `num_slots` per split. Use `create` or `attach`."""
        self._block = block
        self.num_workers = num_workers
        self.num_splits = num_splits
        self._num_slots = num_slots
        self._words = {name: block.counters(name) for name in (*_PER_SPLIT, *_PER_WORKER, "stop")}

    @classmethod
    def create(cls, *, num_workers: int, num_splits: int, num_slots: int) -> ControlBlock:
        block = SharedBlock.create("sf_algo_control", _specs(num_workers, num_splits))
        return cls(block, num_workers=num_workers, num_splits=num_splits, num_slots=num_slots)

    @classmethod
    def attach(cls, fd: int, *, num_workers: int, num_splits: int, num_slots: int) -> ControlBlock:
        """Maps the block behind an inherited descriptor; the sizes are those given to `create`."""
        block = SharedBlock(fd, _specs(num_workers, num_splits))
        return cls(block, num_workers=num_workers, num_splits=num_splits, num_slots=num_slots)

    @property
    def fd(self) -> int:
        return self._block.fd

    def mailbox(self, worker: int, split: int) -> Mailbox:
        words = self._words
        index = worker * self.num_splits + split
        return Mailbox(words["requested"], words["served"], words["row"], index)

    def ring(self, worker: int, split: int) -> SlotRing:
        index = worker * self.num_splits + split
        return SlotRing(self._words["filled"], self._words["freed"], index, self._num_slots)

    def status(self, worker: int) -> WorkerStatus:
        words = self._words
        return WorkerStatus(
            words["phase"],
            words["since_ns"],
            words["env_index"],
            words["stepping_ns"],
            words["waiting_ns"],
            words["loop_ns"],
            worker,
        )

    @property
    def stopping(self) -> bool:
        return self._words["stop"][0] != 0

    def order_stop(self) -> None:
        """Main process: workers end when they next look; ring their doorbells, too."""
        self._words["stop"][0] = 1

    def close(self) -> None:
        self._block.close_fd()


def _specs(num_workers: int, num_splits: int) -> list[ArraySpec]:
    splits = [ArraySpec(name=name, shape=(num_workers * num_splits,), dtype=_INT64) for name in _PER_SPLIT]
    workers = [ArraySpec(name=name, shape=(num_workers,), dtype=_INT64) for name in _PER_WORKER]
    return [*splits, *workers, ArraySpec(name="stop", shape=(1,), dtype=_INT64)]
