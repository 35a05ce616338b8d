"""Time that passes only when it is told to."""

from __future__ import annotations


class FakeClock:
    """Call it for the time now, in unix seconds: `FakeBackend(clock=clock)`, `clock.advance(60)`."""

    def __init__(self, start: float = 1_000_000_000.0) -> None:
        self._now = start

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> float:
        """Let time pass; the new time. ValueError for a step back."""
        if seconds < 0:
            raise ValueError(f"time cannot go back by {-seconds} s")
        self._now += seconds
        return self._now

    def advance_to(self, when: float) -> float:
        """Let time pass until `when`, if that is in the future; the new time."""
        self._now = max(self._now, when)
        return self._now
