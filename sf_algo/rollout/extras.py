"""What goes beyond observations, rewards and ends: reward shaping of agents, further numbers of every step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

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
