"""When which checkpoint is due. Pure: the caller tells the time and does the saving."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sf_algo.config.run import RunConfig

RETRY_S = 20.0
"""Nothing is due for so long after a save that failed: a full disk is not emptied in a moment."""


@dataclass
class SaveSchedule:
    """The clockwork of one policy's checkpoints; all times in seconds of one monotonic clock."""

    run: RunConfig
    started: float
    best_metric: float | None = None

    def __post_init__(self) -> None:
        self._last_save = self.started
        self._last_milestone = self.started
        self._last_best = -math.inf
        self._retry_at = -math.inf

    def _may_save(self, now: float) -> bool:
        return not self.run.benchmark and now >= self._retry_at

    def failed(self, now: float) -> None:
        """A save did not succeed: everything that is due waits a little."""
        self._retry_at = now + RETRY_S

    def save_due(self, now: float, *, wanted: bool = False) -> bool:
        """`wanted`: as soon as it may be."""
        return self._may_save(now) and (wanted or now - self._last_save >= self.run.save_every_sec)

    def saved(self, now: float) -> None:
        self._last_save = now

    def milestone_due(self, now: float) -> bool:
        every = self.run.save_milestones_sec
        return self._may_save(now) and every > 0 and now - self._last_milestone >= every

    def milestone_saved(self, now: float) -> None:
        self._last_milestone = now

    def best_due(
        self, now: float, *, env_steps: int, metric: float | None, episodes: int, at_the_end: bool = False
    ) -> bool:
        """Whether `metric`, an average over `episodes` episodes, is worth saving as the best so far. A window
        that is not full yet is luck, not merit. `at_the_end` there is no later chance to wait for."""
        return (
            self._may_save(now)
            and metric is not None
            and math.isfinite(metric)
            and episodes >= self.run.stats_avg
            and env_steps >= self.run.save_best_after
            and (at_the_end or now - self._last_best >= self.run.save_best_every_sec)
            and (self.best_metric is None or metric > self.best_metric)
        )

    def best_saved(self, now: float, metric: float) -> None:
        self._last_best = now
        self.best_metric = metric
