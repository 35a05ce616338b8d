"""Several levels one after the other, for watching a policy that was trained on all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sf_algo.envs.dmlab.dmlab_env import DmlabEnv
from sf_algo.envs.spec import ObsRow, StepResult


class LevelTour:
    """Every episode is the next level's; behind the last one comes the first again. One engine is open at a time."""

    def __init__(self, makers: Sequence[Callable[[], DmlabEnv]]) -> None:
        self._makers = makers
        self._episode = 0
        self._env = makers[0]()
        self.spec = self._env.spec

    def reset(self, out: Sequence[ObsRow], *, seed: int | None = None) -> None:
        if self._episode and len(self._makers) > 1:
            self._env.close()
            self._env = self._makers[self._episode % len(self._makers)]()
        self._episode += 1
        self._env.reset(out, seed=seed)

    def step(self, actions: NDArray[np.float32], out: Sequence[ObsRow]) -> StepResult:
        return self._env.step(actions, out)

    def render(self) -> NDArray[np.uint8]:
        """As `DmlabEnv.render`."""
        return self._env.render()

    def close(self) -> None:
        self._env.close()
