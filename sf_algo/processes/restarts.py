"""How often a process that died may be started again."""

from __future__ import annotations

from collections import deque


class Restarts:
    """Counts them within a window of time: what dies again and again has a reason that a restart does not remove."""

    def __init__(self, most: int, window_s: float) -> None:
        self.most = most
        self.window_s = window_s
        self._times: deque[float] = deque()

    def begin(self, now: float) -> int:
        """Which restart of the window this is, from 1 on; 0 where there have been too many. `now`: monotonic clock."""
        while self._times and now - self._times[0] > self.window_s:
            self._times.popleft()
        if len(self._times) >= self.most:
            return 0
        self._times.append(now)
        return len(self._times)

    @property
    def exceeded(self) -> str:
        """In words, when `begin` has returned 0."""
        return f"{self.most + 1} times in {self.window_s / 60:g} minutes"
