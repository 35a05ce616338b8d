"""Notices that this process was suspended, so that the time meanwhile is held against nobody."""

from __future__ import annotations

import time
from collections.abc import Callable

_LEAST_GAP_S = 1.0
"""Longer than the time between two looks on a busy machine."""


class AbsenceWatch:
    """Tells when this process last came back from being suspended.

    A whole training may be suspended and go on later: Ctrl-Z, a cluster that suspends jobs, a frozen container. The
    clock goes on meanwhile, so every worker seems to have been silent for hours. A watcher that calls `look` often
    notices the gap; it should count silence from the end of that gap.
    """

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`limit_s`: the shortest time limit that the watcher applies, in seconds. A gap between two looks counts as an
        absence when it is longer than half of that, and than 1 s."""
        self._longest_gap_s = max(limit_s / 2, _LEAST_GAP_S)
        self._clock = clock
        self._seen = self._back = clock()

    def look(self) -> float:
        """When the last absence ended, in seconds of the monotonic clock. Call it again and again."""
        now = self._clock()
        if now - self._seen > self._longest_gap_s:
            self._back = now
        self._seen = now
        return self._back
