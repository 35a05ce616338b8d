"""Who acts where: a small table in shared memory, written by the main process, read by those who begin episodes.

Every policy has a weight in each role: how often agents of that role follow it. Opponents (policies that are not
trained) come and go; each says which member of the pool of earlier selves it is now.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sf_algo.buffers.shared import ArraySpec, SharedBlock

NOBODY = -1
"""Member of the pool that a policy is which is trained, or an opponent that has not come yet."""


@dataclass(frozen=True, kw_only=True)
class RosterView:
    """The table at one moment."""

    version: int
    """0: nothing was ever written, and policies are drawn as if there were no roster."""
    weights: NDArray[np.float64]
    """[policies that act, roles]"""
    members: NDArray[np.int64]
    """[policies that act]: of an opponent, the member of the pool that it is."""
    opponent_share: float
    """Share of the matches in which all agents but those of one policy follow opponents."""


class Roster:
    """See the module. One process writes; a reader takes a view of its own."""

    def __init__(self, block: SharedBlock) -> None:
        self._block = block
        self._counters = block.counters("roster")
        self._weights = block.arrays["weights"]
        self._members = block.arrays["members"]
        self._share = block.arrays["opponent_share"]
        self._view: RosterView | None = None

    @property
    def version(self) -> int:
        return self._counters[0]

    def view(self) -> RosterView:
        """The newest whole table."""
        while True:
            version = self._counters[0]
            if self._view is not None and self._view.version == version:
                return self._view
            if version % 2:  # it is being written, which takes microseconds
                time.sleep(0.0001)
                continue
            view = RosterView(
                version=version,
                weights=self._weights.copy(),
                members=self._members.copy(),
                opponent_share=float(self._share[0]),
            )
            if self._counters[0] == version:
                self._view = view
                return view

    def write(self, *, weights: Sequence[Sequence[float]], members: Sequence[int], opponent_share: float = 0.0) -> None:
        """Main process: replaces the table; new episodes follow it."""
        self._counters[0] += 1
        self._weights[:] = weights
        self._members[:] = members
        self._share[0] = opponent_share
        self._counters[0] += 1


def roster_specs(num_acting: int, num_roles: int) -> list[ArraySpec]:
    """Its arrays in a block of shared memory."""
    return [
        ArraySpec(name="roster", shape=(1,), dtype=np.dtype(np.int64)),
        ArraySpec(name="weights", shape=(num_acting, num_roles), dtype=np.dtype(np.float64)),
        ArraySpec(name="members", shape=(num_acting,), dtype=np.dtype(np.int64)),
        ArraySpec(name="opponent_share", shape=(1,), dtype=np.dtype(np.float64)),
    ]
