"""What a split begins with, and what it must remember to go on where it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sf_algo.buffers.layout import TrajectoryArrays


@dataclass(frozen=True, kw_only=True)
class SplitState:
    """What a split must remember to go on exactly where it is; environments are replayed. Those that reset themselves
    begin anew: what they did since their only reset may be a whole training."""

    row: int
    slot: TrajectoryArrays
    """The unfinished slot; row 0 of the recurrent states alone when nothing has been done in it yet."""

    episodes: list[int]
    """Number of the episode under way in each environment."""
    actions: list[NDArray[np.float32]]
    """Of each environment since its reset: [steps, A, width]."""
    awaiting_reset: list[bool]
    counted: list[bool]
    """Of each agent: none of its episode was played at random. One per environment in older checkpoints."""
    policy_ids: NDArray[np.int32]
    members: NDArray[np.int64] | None = None
    """Which members of the pool of earlier selves the agents follow; None in older checkpoints, and where nobody
    can."""
    total_rewards: NDArray[np.float64]
    total_steps: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """Random steps before the first rollout, so that the episodes of a run do not all begin and end
    together."""

    rng: np.random.Generator
    max_steps: int
    """Every environment draws its number of steps from 0 to this."""
    each: bool
    """Every environment draws for itself; otherwise all take the same number."""
    expired: Callable[[], bool]
    """Ends the steps early."""

    def draw_steps(self, num_envs: int) -> list[int]:
        drawn: list[int] = self.rng.integers(self.max_steps + 1, size=num_envs).tolist()
        return drawn if self.each else [drawn[0]] * num_envs
