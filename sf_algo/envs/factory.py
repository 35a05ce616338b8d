"""From an environment's name to the environment.

Each family is imported when it is asked for: a worker that plays VizDoom spares itself gymnasium (9 MB, 50
ms).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from sf_algo.config import DmlabConfig, DoomConfig, EnvConfig
from sf_algo.config.families import EnvFamily, family_of
from sf_algo.envs.spec import Env, EnvPlacement
from sf_algo.errors import ConfigError, EnvError


@dataclass(frozen=True, kw_only=True)
class EnvSections:
    """The sections of the configuration that environments are made from."""

    env: EnvConfig = field(default_factory=EnvConfig)
    doom: DoomConfig = field(default_factory=DoomConfig)
    dmlab: DmlabConfig = field(default_factory=DmlabConfig)


def make_env(name: str | None, sections: EnvSections, placement: EnvPlacement | None = None) -> Env:
    """Makes the environment called `name`.

    Cheap for VizDoom (its engine starts with the first reset), so asking it for `spec` and closing it is
    fine. Raises ConfigError without a name, UnknownEnvError (naming the nearest one), MissingDependencyError
    (naming the extra, package or command that helps) or EnvError.
    """
    if not name:
        raise ConfigError("--env is missing; name an environment, for instance --env=CartPole-v1")
    placement = placement or EnvPlacement()
    family = family_of(name)
    if family is EnvFamily.DOOM:
        from sf_algo.envs.doom.make import make_doom

        return make_doom(name, sections.env, sections.doom, placement)
    if family is EnvFamily.ATARI:
        from sf_algo.envs.atari import make_atari

        return make_atari(name, sections.env, placement)
    if family is EnvFamily.DMLAB:
        raise EnvError(f"--env={name}: DMLab environments are not available in this version")
    if family is EnvFamily.CUSTOM and not _is_gymnasium_id(name):
        from sf_algo.envs.custom import make_custom

        return make_custom(name, sections.env, placement)
    if family is EnvFamily.MUJOCO:
        from sf_algo.envs.mujoco import make_mujoco

        return make_mujoco(name, sections.env, render_mode=placement.render_mode)
    from sf_algo.envs.gymnasium_env import make_gymnasium

    return make_gymnasium(name, sections.env, render_mode=placement.render_mode)


def import_family(name: str | None) -> None:
    """Imports what an environment of that name will import, for processes that are copied from this one. What cannot be
    imported is told when the environment is made."""
    family = family_of(name) if name else EnvFamily.CUSTOM
    with suppress(ImportError):
        if family is EnvFamily.DOOM:
            import vizdoom  # noqa: F401

            import sf_algo.envs.doom.make
        elif family is EnvFamily.ATARI:
            import sf_algo.envs.atari
        elif family is not EnvFamily.CUSTOM:  # a user's module may do anything
            import sf_algo.envs.gymnasium_env  # noqa: F401


def remove_leftovers(name: str | None) -> list[str]:
    """Removes what killed environments of this family left on the machine; never touches what is in use.

    Returns what was removed. To be called by the main process when a run starts and ends.
    """
    if family_of(name) not in (EnvFamily.DOOM, EnvFamily.CUSTOM):
        return []
    from sf_algo.envs.doom.shm import remove_dead_segments

    return remove_dead_segments()


def remove_own_leftovers() -> None:
    """For a process that dies without closing its environments: before and after it has killed their processes."""
    from sf_algo.envs.doom.shm import remove_own_segments

    remove_own_segments()


def _is_gymnasium_id(name: str) -> bool:
    """`module:Name-v0` is gymnasium's own way to import a module that registers environments."""
    stem, _, version = name.rpartition("-v")
    return bool(stem) and version.isdigit()
