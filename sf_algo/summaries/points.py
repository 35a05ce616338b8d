"""When a point of the curves is due: after so many seconds, and after every hundredth of the training.

Seconds alone leave a training of 15 s with one point, and shares alone one of a week with a point every two hours.
"""

from __future__ import annotations

from sf_algo.config.run import RunConfig

SHARE = 0.01
"""Of the limits on frames and seconds, the most between two points."""


class PointSchedule:
    """Tells when summaries are due. Times are those of one monotonic clock (s)."""

    def __init__(self, run: RunConfig, *, now: float) -> None:
        self._interval_s = run.experiment_summaries_interval
        self._frames = None if run.env_steps_limit is None else SHARE * run.env_steps_limit
        self._seconds = None if run.seconds_limit is None else SHARE * run.seconds_limit
        self._last_s = now
        self._last_share = (0, 0)

    @property
    def frames_between(self) -> float | None:
        """Environment frames between two points; None where no limit on frames says."""
        return self._frames

    def due(self, now: float, *, env_steps: int, train_seconds: float) -> bool:
        """Frames and seconds are those of the whole training, before resumes included."""
        return now - self._last_s >= self._interval_s or self._share(env_steps, train_seconds) > self._last_share

    def wrote(self, now: float, *, env_steps: int, train_seconds: float) -> None:
        """A point was written at this moment, or the training begins."""
        self._last_s = now
        self._last_share = self._share(env_steps, train_seconds)

    def _share(self, env_steps: int, train_seconds: float) -> tuple[int, int]:
        """How many whole hundredths of either limit have passed. Either one grows only, so any growth makes the pair
        greater or, where the first stands still, the second."""
        frames = int(env_steps / self._frames) if self._frames else 0
        seconds = int(train_seconds / self._seconds) if self._seconds else 0
        return frames, seconds
