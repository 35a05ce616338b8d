"""MuJoCo locomotion tasks, `mujoco_<name>`, as gymnasium ids."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from types import MappingProxyType

from sf_algo.envs.names import unknown_env
from sf_algo.errors import MissingDependencyError, UnknownEnvError

_NEEDED = ("mujoco", "imageio")  # gymnasium imports the second for nothing but videos, and insists

MUJOCO_IDS: Mapping[str, str] = MappingProxyType(
    {
        "mujoco_ant": "Ant-v5",
        "mujoco_doublependulum": "InvertedDoublePendulum-v5",
        "mujoco_halfcheetah": "HalfCheetah-v5",
        "mujoco_hopper": "Hopper-v5",
        "mujoco_humanoid": "Humanoid-v5",
        "mujoco_pendulum": "InvertedPendulum-v5",
        "mujoco_pusher": "Pusher-v5",
        "mujoco_reacher": "Reacher-v5",
        "mujoco_standup": "HumanoidStandup-v5",
        "mujoco_swimmer": "Swimmer-v5",
        "mujoco_walker": "Walker2d-v5",
    }
)


def mujoco_id(name: str) -> str:
    """The gymnasium id. Raises UnknownEnvError, or MissingDependencyError without the packages of that
    extra.
    """
    if name not in MUJOCO_IDS:
        raise UnknownEnvError(unknown_env(name, list(MUJOCO_IDS)))
    missing = [module for module in _NEEDED if importlib.util.find_spec(module) is None]
    if missing:
        raise MissingDependencyError(
            f'--env={name} needs the extra "mujoco": pip install "sf-runner[mujoco]" (missing: {", ".join(missing)})'
        )
    return MUJOCO_IDS[name]
