"""Requests for actions: which splits wait, at which row of which slot. No payload travels.

One mailbox per split. `requested` and `row` are written by the worker, `served` by inference; a request is
pending while the two counters differ. The slot is the one the split is filling (`SlotRing.fill_position`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mailbox:
    """Requests for actions of one split, and their answers; the worker and the main process map the same counters."""

    requested_counts: memoryview[int]
    served_counts: memoryview[int]
    rows: memoryview[int]
    index: int

    @property
    def pending(self) -> bool:
        return self.requested_counts[self.index] != self.served_counts[self.index]

    @property
    def row(self) -> int:
        """Row t of the slot for which actions are wanted."""
        return self.rows[self.index]

    @property
    def ticket(self) -> int:
        """Identifies the pending request; hand it back to `serve`."""
        return self.requested_counts[self.index]

    def request(self, row: int) -> None:
        """Worker: row `row` is complete, actions are wanted."""
        self.rows[self.index] = row
        self.requested_counts[self.index] += 1

    def serve(self, ticket: int) -> None:
        """Inference: the actions for the request of that ticket are in the slot."""
        self.served_counts[self.index] = ticket
