"""Averages over the newest episodes of a policy."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

REWARD = "reward"
TRUE_REWARD = "true_reward"
LENGTH = "len"


class DerivedMeans(Protocol):
    """What follows from the averages of an environment's statistics, and is no average itself: scores of a suite."""

    def __call__(self, means: Mapping[str, float]) -> Mapping[str, float]:
        """More averages, from those of the episodes."""

    def table(self, means: Mapping[str, float], counts: Mapping[str, int]) -> Mapping[str, Any] | None:
        """`title`, `columns` and `rows` to be shown; `counts` are numbers of episodes. None: nothing to show yet."""


class EpisodeWindow:
    """The newest `size` values of every statistic of one policy's episodes."""

    def __init__(self, size: int, derived: DerivedMeans | None = None) -> None:
        self._size = size
        self._derived = derived
        self._values: dict[str, deque[float]] = {}
        self.total_episodes = 0
        """Episodes since the training began, those before a resume included."""

    def add(self, *, reward: float, num_frames: int, stats: Mapping[str, float]) -> None:
        """Adds a finished episode: the summed reward, the length in frames and the environment's statistics.
        Where these hold no true reward, the reward is the true one."""
        self.total_episodes += 1
        values = {REWARD: reward, LENGTH: float(num_frames), TRUE_REWARD: reward, **stats}
        for name, value in values.items():
            if math.isfinite(value):
                self._values.setdefault(name, deque(maxlen=self._size)).append(value)

    def means(self) -> dict[str, float]:
        """Mean of each statistic over the episodes in the window that have it, and what is derived from the means."""
        means = self._plain_means()
        return means if self._derived is None else {**means, **self._derived(means)}

    def table(self) -> Mapping[str, Any] | None:
        """As `DerivedMeans.table`, of the episodes in the window."""
        if self._derived is None:
            return None
        return self._derived.table(self._plain_means(), {name: len(values) for name, values in self._values.items()})

    def _plain_means(self) -> dict[str, float]:
        return {name: math.fsum(values) / len(values) for name, values in self._values.items() if values}

    def extremes(self, name: str) -> tuple[float, float] | None:
        """Least and greatest value of a statistic in the window; None where there is none."""
        values = self._values.get(name)
        return (min(values), max(values)) if values else None

    def count(self, name: str) -> int:
        """Episodes in the window that have the statistic; all, where it is derived."""
        derived = name not in self._values and self._derived is not None and name in self.means()
        return len(self._values.get(REWARD if derived else name, ()))

    def forget(self) -> None:
        """The averages begin anew: the policy is another one now."""
        self._values.clear()

    def state(self) -> dict[str, object]:
        """For the checkpoint: plain values only."""
        return {
            "total_episodes": self.total_episodes,
            "values": {name: list(values) for name, values in self._values.items()},
        }

    def restore(self, state: Mapping[str, object]) -> None:
        """Takes over what `state` returned, in a window of possibly another size."""
        total, values = state["total_episodes"], state["values"]
        assert isinstance(total, int)
        assert isinstance(values, Mapping)
        self.total_episodes = total
        self._values = {str(name): deque(_numbers(items), maxlen=self._size) for name, items in values.items()}


def _numbers(items: Sequence[float]) -> list[float]:
    return [float(item) for item in items]
