"""A short walk whose rewards are shaped by nested numbers; each episode tells by which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

CELLS = 4


class ShapedWalk(gymnasium.Env[Any, Any]):
    """Action 1 leads on, action 0 back; reaching the end is what counts."""

    action_space = gymnasium.spaces.Discrete(2)
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self) -> None:
        self.numbers: Mapping[str, Any] = {"goal": {"reached": 1.0, "missed": -0.5}, "step": -0.01}

    def shaping(self) -> Mapping[str, Any]:
        return self.numbers

    def set_shaping(self, agent: int, values: Mapping[str, Any]) -> None:
        self.numbers = values

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.position = self.steps = 0
        return self.observe(), {}

    def observe(self) -> Any:
        return np.array([self.position / CELLS, 1.0], np.float32)

    def step(self, action: Any) -> Any:
        self.position = max(0, self.position + (1 if action == 1 else -1))
        self.steps += 1
        reached, missed = self.position == CELLS, self.steps == 3 * CELLS
        goal = self.numbers["goal"]
        reward = self.numbers["step"] + (goal["reached"] if reached else goal["missed"] if missed else 0.0)
        info: dict[str, Any] = {}
        if reached or missed:
            info["true_objective"] = float(reached)
            info["episode_extra_stats"] = {"reached": goal["reached"], "missed": goal["missed"]}
        return self.observe(), reward, reached, missed and not reached, info


def make_env() -> ShapedWalk:
    return ShapedWalk()
