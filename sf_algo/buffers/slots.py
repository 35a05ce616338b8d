"""Who owns a slot. A split fills its slots in turn, the batcher frees them in the same order.

Two counters per split say it all, and each has exactly one writer: `filled` (the worker) and `freed` (the
batcher). Slot `filled % capacity` is being filled, the `filled - freed` slots before it are full, the others
are free. A process that dies holds no lock, and its successor goes on where the counters stand.

A counter is one aligned 64-bit word. The writer publishes it after the data; the doorbell's system call that
follows orders the two on machines that do not keep stores in order.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SlotRing:
    """Counts which slots of one split are full; the worker and the main process each map the same counters."""

    filled_counts: memoryview[int]
    freed_counts: memoryview[int]
    index: int
    capacity: int

    @property
    def filled(self) -> int:
        return self.filled_counts[self.index]

    @property
    def freed(self) -> int:
        return self.freed_counts[self.index]

    @property
    def num_full(self) -> int:
        return self.filled_counts[self.index] - self.freed_counts[self.index]

    @property
    def has_free(self) -> bool:
        """The slot `fill_position` may be written."""
        return self.num_full < self.capacity

    @property
    def fill_position(self) -> int:
        """The slot that the worker fills now or next."""
        return self.filled_counts[self.index] % self.capacity

    @property
    def oldest_full(self) -> int:
        """The slot to be copied and freed next; meaningful when `num_full` > 0."""
        return self.freed_counts[self.index] % self.capacity

    def publish(self) -> None:
        """Worker: the slot being filled is full."""
        self.filled_counts[self.index] += 1

    def free(self) -> bool:
        """Batcher: the oldest full slot has been copied. True where the worker may sleep because it found no free slot:
        whoever asked before freeing would miss that it filled another one meanwhile."""
        assert self.num_full > 0, "freeing a slot that is not full"
        self.freed_counts[self.index] += 1
        return self.num_full >= self.capacity - 1
