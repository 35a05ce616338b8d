"""Time that passes only when it is told to."""

from __future__ import annotations

from sf_runner.basics.clock import Clock, Reading


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


class SettableClock(Clock):
    """The clocks of a machine: wall time, which can be set, and the steady ones. For a `RunLoop`."""

    def __init__(self, start: Reading | None = None) -> None:
        self.reading = start or Reading(wall=1_000_000_000.0, steady=100.0, boot=150.0)
        super().__init__()

    def read(self) -> Reading:
        return self.reading

    def wall(self) -> float:
        return self._last.wall + self.reading.boot - self._last.boot

    def steady(self) -> float:
        return self.reading.steady

    def now(self) -> Reading:
        return Reading(wall=self.wall(), steady=self.reading.steady, boot=self.reading.boot)

    def pass_time(self, seconds: float, *, set_s: float = 0.0, slept_s: float = 0.0) -> None:
        """`set_s`: by how much the wall clock is set forward meanwhile; `slept_s`: how long the machine also sleeps."""
        at = self.reading
        self.reading = Reading(
            wall=at.wall + seconds + slept_s + set_s,
            steady=at.steady + seconds,
            boot=at.boot + seconds + slept_s,
        )

    def _goes_on(self) -> bool:
        return False
