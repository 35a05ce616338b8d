"""Which family an environment's name belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class EnvFamily(Enum):
    """Kinds of environments that differ in flags or defaults."""

    DOOM = "doom"
    DMLAB = "dmlab"
    ATARI = "atari"
    MUJOCO = "mujoco"
    CLASSIC_CONTROL = "classic control"
    GYMNASIUM = "gymnasium"
    CUSTOM = "custom"


_PREFIXES = {
    "doom_": EnvFamily.DOOM,
    "dmlab_": EnvFamily.DMLAB,
    "atari_": EnvFamily.ATARI,
    "mujoco_": EnvFamily.MUJOCO,
}
_CLASSIC_CONTROL = frozenset({"CartPole", "Pendulum", "Acrobot", "MountainCar", "MountainCarContinuous"})

FAMILY_SECTIONS: Mapping[str, EnvFamily] = {"doom": EnvFamily.DOOM, "dmlab": EnvFamily.DMLAB}
"""Sections that only one family understands."""


def family_of(env: str | None) -> EnvFamily | None:
    """The family an environment's name belongs to; None without a name."""
    if not env:
        return None
    if ":" in env:
        return EnvFamily.CUSTOM
    for prefix, family in _PREFIXES.items():
        if env.startswith(prefix):
            return family
    return EnvFamily.CLASSIC_CONTROL if env.rsplit("-v", 1)[0] in _CLASSIC_CONTROL else EnvFamily.GYMNASIUM


def understands(family: EnvFamily | None, section: str) -> bool:
    """Whether flags of `section` mean anything to `family`; without one, every section might."""
    owner = FAMILY_SECTIONS.get(section)
    return owner is None or family is None or owner is family
