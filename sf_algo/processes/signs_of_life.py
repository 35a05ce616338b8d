"""Time limits that a sleeping process cannot miss."""

from __future__ import annotations

import time
from collections.abc import Callable

_LEAST_GAP_S = 1.0
"""More than watchers need between two looks on a busy machine."""


class Attendance:
    """Tells when a watcher has last come back from an absence.

    A training may be stopped as a whole and go on later: Ctrl-Z, a cluster that suspends jobs, a frozen container. The
    clock goes on meanwhile, so that everybody seems to have been silent for hours. What the watcher has not been there
    to see it holds against nobody: silence counts from its return.
    """

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`limit_s`: the shortest silence that is held against anybody. Up to half of it between two looks (1 s where
        that is more) is no absence."""
        self._longest_gap_s = max(limit_s / 2, _LEAST_GAP_S)
        self._clock = clock
        self._seen = self._back = clock()

    def look(self) -> float:
        """To be called again and again. Returns when the last absence ended, on the monotonic clock."""
        now = self._clock()
        if now - self._seen > self._longest_gap_s:
            self._back = now
        self._seen = now
        return self._back
