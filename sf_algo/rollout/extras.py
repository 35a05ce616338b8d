"""What goes beyond observations, rewards and ends: reward shaping of agents, further numbers of every step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf_algo.buffers.layout import STEP_PREFIX, TrajectoryArrays
from sf_algo.rollout.env_set import EnvSet

ShapingOf = Callable[[int], "Mapping[str, float] | None"]
"""Policy -> its reward shaping; None for that which the environment begins with."""


class SplitExtras:
    """Of the environments of one split."""

    def __init__(self, envs: EnvSet, columns: Sequence[slice], shaping: ShapingOf | None) -> None:
        """`columns`: those of every environment's agents."""
        self._envs = envs
        self._columns = columns
        self._shaping = shaping if envs.spec.shaping else None
        self._fields = [(name, STEP_PREFIX + name) for name in envs.spec.step_fields]

    def forget(self) -> None:
        """What was recorded so far is of steps that nobody learns from."""
        for e in range(len(self._columns)):
            recorder = self._envs.recorder(e)
            if recorder is not None:
                recorder.forget()

    def write_fields(self, slot: TrajectoryArrays, t: int) -> None:
        """Write the numbers of the step behind row t; zeros where nothing was stepped."""
        if not self._fields:
            return
        for e, columns in enumerate(self._columns):
            recorder = self._envs.recorder(e)
            into = {name: slot[key][t, columns] for name, key in self._fields}
            if recorder is not None:
                recorder.take_fields(into)
                continue
            for array in into.values():
                array[...] = 0.0

    def of_episode(self, e: int) -> Sequence[Any] | None:
        """What environment e says of the episode of each of its agents, beside numbers."""
        recorder = self._envs.recorder(e)
        return None if recorder is None else recorder.take_extras()

    def shape(self, e: int, columns: Iterable[int], policy_ids: NDArray[np.int32]) -> None:
        """Agents of environment e get the reward shaping of the policies that they follow from now on."""
        if self._shaping is None:
            return
        for column in columns:
            values = self._shaping(int(policy_ids[column]))
            if values is not None:
                self._envs.set_shaping(e, column - self._columns[e].start, values)

    def shape_all(self, policy_ids: NDArray[np.int32]) -> None:
        """The same for all agents of all environments."""
        for e, columns in enumerate(self._columns):
            self.shape(e, range(columns.start, columns.stop), policy_ids)
