"""Environments for the contract test: small ones of our own that cover every kind of space, and the real
ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from sf_algo.config import DoomConfig, EnvConfig
from sf_algo.envs.factory import EnvSections

HERE = "tests.algo.env_cases"


@dataclass(frozen=True, kw_only=True)
class EnvCase:
    """One environment to hold to the contract."""

    name: str
    sections: EnvSections = field(default_factory=EnvSections)
    ends_within: int | None = None
    """Steps of random play within which an episode surely ends; None: not tried."""
    seed_matters: bool = True
    is_doom: bool = False

    def __str__(self) -> str:
        return self.name.split(":")[-1]


class EverySpace(gymnasium.Env[Any, Any]):
    """Observes and acts through every kind of space at once; ends after 7 steps."""

    def __init__(self) -> None:
        self.observation_space = spaces.Dict(
            {
                "camera": spaces.Box(0, 255, (6, 8, 3), np.uint8),
                "depth": spaces.Box(0, 255, (6, 8), np.uint8),
                "memory": spaces.Box(0, 255, (5,), np.uint8),
                "pose": spaces.Box(-1.0, 1.0, (4,), np.float64),
                "scalar": spaces.Box(-1.0, 1.0, (), np.float32),
                "count": spaces.Box(0, 9, (2,), np.int64),
                "which": spaces.Discrete(3, start=1),
                "several": spaces.MultiDiscrete([2, 3]),
                "flags": spaces.MultiBinary(4),
                "pair": spaces.Tuple((spaces.Discrete(2), spaces.Box(-1.0, 1.0, (1,)))),
                "action_mask": spaces.Box(0, 1, (5,), np.int8),
            }
        )
        self.action_space = spaces.Dict(
            {
                "aim": spaces.Box(np.array([-1.0, 0.0]), np.array([1.0, 2.0]), dtype=np.float64),
                "moves": spaces.Tuple((spaces.Discrete(3, start=5), spaces.Discrete(2))),
            }
        )
        self.steps = 0
        self.taken: list[Any] = []

    def _observe(self) -> Any:
        self.observation_space.seed(int(self.np_random.integers(1 << 30)))
        return self.observation_space.sample()

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.taken.append(action)
        self.steps += 1
        ended = self.steps == 7
        info = {"episode_extra_stats": {"sum": 3.5}, "true_objective": 9.0} if ended else {}
        return self._observe(), float(self.steps), ended, False, info


def make_every_space() -> gymnasium.Env[Any, Any]:
    return EverySpace()


def _cfg(**values: Any) -> EnvSections:
    return EnvSections(env=EnvConfig(**values))


def _doom(name: str, ends_within: int | None = None, **values: Any) -> EnvCase:
    """Long frame skips make the episodes of a test short."""
    sections = EnvSections(env=EnvConfig(env_frameskip=values.pop("skip", 4)), doom=DoomConfig(**values))
    return EnvCase(name=f"doom_{name}", sections=sections, ends_within=ends_within, is_doom=True)


CASES = [
    EnvCase(name="CartPole-v1", ends_within=500),
    EnvCase(name="MountainCar-v0", ends_within=200),
    EnvCase(name="Pendulum-v1", ends_within=200),
    EnvCase(name="Pendulum-v1", sections=_cfg(env_frameskip=3), ends_within=67),
    EnvCase(name="FrozenLake-v1", ends_within=100, seed_matters=False),
    EnvCase(name=f"{HERE}:make_every_space", ends_within=7),
    EnvCase(name=f"{HERE}:make_every_space", sections=_cfg(env_framestack=3, env_frameskip=2), ends_within=4),
    EnvCase(name="sf_algo.testing:MemoryEnv", ends_within=6, seed_matters=False),
    EnvCase(name="atari_pong", sections=_cfg(env_frameskip=4, env_framestack=4)),
    EnvCase(name="atari_breakout", sections=_cfg(env_frameskip=4, env_framestack=4), ends_within=400),
    EnvCase(name="mujoco_hopper", ends_within=1000),
    _doom("basic", 30, skip=10),
    _doom("my_way_home", 60, skip=35),
    _doom("my_way_home_flat_actions"),
    _doom("defend_the_center", 210, skip=10),
    _doom("defend_the_center_flat_actions", res_w=64, res_h=48),
    _doom("defend_the_line"),
    _doom("deadly_corridor", wide_aspect_ratio=True),
    _doom("health_gathering", 210, skip=10),
    _doom("health_gathering_supreme"),
    _doom("two_colors_easy"),
    _doom("two_colors_hard"),
    _doom("battle"),
    _doom("battle2"),
    _doom("benchmark", 60, skip=35),
]
