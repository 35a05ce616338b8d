"""When a training ends: its limits, and signals that ask it to."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from types import FrameType


class StopReason(Enum):
    """Why a training ended; the value is how the log says it."""

    TIME = "train_for_seconds is over"
    FRAMES = "train_for_env_steps is reached"
    INTERRUPTED = "interrupted (SIGINT)"
    TERMINATED = "terminated (SIGTERM)"

    @property
    def exit_code(self) -> int:
        """0 for a training that did what was asked; 128 + signal for one that was stopped, after saving."""
        signals = {StopReason.INTERRUPTED: signal.SIGINT, StopReason.TERMINATED: signal.SIGTERM}
        return 128 + signals[self] if self in signals else 0


class StopRequested(BaseException):
    """Unwinds the start of a training that is to stop before it has begun. No Exception: those that an
    environment raises while it starts are dealt with on the way."""


class StopCondition:
    """Asked between small pieces of work whether to go on."""

    def __init__(self, *, time_left_s: float) -> None:
        """The time counts from `start_clock`."""
        self._reason: StopReason | None = None
        self._time_left_s = time_left_s
        self._deadline = math.inf

    def set_time_left(self, seconds: float) -> None:
        """To be called before the clock starts. Where nothing is left, it need not start."""
        self._time_left_s = seconds
        if seconds <= 0.0:
            self.request(StopReason.TIME)

    def start_clock(self) -> None:
        """From now on the time counts: the first frame is there."""
        self._deadline = time.monotonic() + min(self._time_left_s, threading.TIMEOUT_MAX)

    def request(self, reason: StopReason) -> None:
        """Ends the training soon; the first reason counts."""
        self._reason = self._reason or reason

    @property
    def deadline(self) -> float:
        """On the monotonic clock; infinite before it counts."""
        return self._deadline

    @property
    def reason(self) -> StopReason | None:
        """Why to stop, or None to go on."""
        if self._reason is None and time.monotonic() >= self._deadline:
            self._reason = StopReason.TIME
        return self._reason

    def check(self) -> None:
        """Raises StopRequested where there is a reason to stop."""
        if self.reason is not None:
            raise StopRequested


@contextmanager
def stop_on_signals(stop: StopCondition, wake: Callable[[], None] = lambda: None) -> Iterator[None]:
    """SIGINT and SIGTERM become requests to stop; a second SIGINT interrupts at once, saving nothing more."""

    def interrupted(number: int, frame: FrameType | None) -> None:
        stop.request(StopReason.INTERRUPTED)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        wake()

    def terminated(number: int, frame: FrameType | None) -> None:
        stop.request(StopReason.TERMINATED)
        wake()

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, interrupted),
        signal.SIGTERM: signal.signal(signal.SIGTERM, terminated),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
