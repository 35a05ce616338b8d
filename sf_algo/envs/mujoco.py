"""MuJoCo locomotion tasks, `mujoco_<name>`, as gymnasium ids."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from sf_algo.config import EnvConfig
from sf_algo.envs.gymnasium_env import GymnasiumEnv, make_gymnasium
from sf_algo.errors import MissingDependencyError, UnknownEnvError
from sf_algo.own.names import unknown_env

log = logging.getLogger(__name__)

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


def make_mujoco(name: str, env_cfg: EnvConfig, *, render_mode: str | None = None) -> GymnasiumEnv:
    """Raises UnknownEnvError, MissingDependencyError or EnvError."""
    env_id = mujoco_id(name)
    with _deprecations_unsaid():
        return make_gymnasium(env_id, env_cfg, render_mode=render_mode)


@contextmanager
def _deprecations_unsaid() -> Iterator[None]:
    """MuJoCo says of every gymnasium model it reads which of its attributes are deprecated: once per environment,
    and into a file MUJOCO_LOG.TXT where the user happens to be. Other warnings reach the log.
    """
    import mujoco

    if not hasattr(mujoco, "set_mju_user_warning"):
        yield
        return
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(_pass_on)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


def _pass_on(message: str | bytes) -> None:
    text = message.decode(errors="replace") if isinstance(message, bytes) else message
    if "deprecated" not in text:
        log.warning("MuJoCo: %s", text)
