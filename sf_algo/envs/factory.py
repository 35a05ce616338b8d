"""From an environment's name to the environment.

Each family is imported when it is asked for: a worker that plays VizDoom spares itself gymnasium (9 MB, 50
ms).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sf_algo.config import Config, DmlabConfig, DoomConfig, EnvConfig
from sf_algo.config.env_family import EnvFamily, family_of
from sf_algo.envs.dmlab.scores import LevelScores
from sf_algo.envs.spec import Env, EnvPlacement
from sf_algo.errors import ConfigError
from sf_algo.own.additions import NOTHING_ADDED, Additions, is_import_path
from sf_algo.own.loading import load_maker
from sf_algo.own.training_info import TrainingInfo


@dataclass(frozen=True, kw_only=True)
class EnvSections:
    """The sections of the configuration that environments are made from."""

    env: EnvConfig = field(default_factory=EnvConfig)
    doom: DoomConfig = field(default_factory=DoomConfig)
    dmlab: DmlabConfig = field(default_factory=DmlabConfig)
    args: Mapping[str, Any] = field(default_factory=dict)
    """What the environment's own maker is told."""
    own: Mapping[str, Any] = field(default_factory=dict)
    """Sections of the user's program."""
    additions: Additions = NOTHING_ADDED
    """The user's program, which may make the environment itself."""
    training: TrainingInfo = field(default_factory=TrainingInfo)
    experiment: Path | None = None
    """The experiment's folder, where workers may leave what they have to agree on; None where nothing is stored."""

    @staticmethod
    def of(config: Config, additions: Additions, training: TrainingInfo | None = None) -> EnvSections:
        """What a whole configuration has for environments."""
        return EnvSections(
            env=config.env,
            doom=config.doom,
            dmlab=config.dmlab,
            args=config.env_args,
            own=config.own,
            additions=additions,
            training=training or TrainingInfo(),
            experiment=None if config.run.benchmark else config.run.experiment_dir.absolute(),
        )


def make_env(name: str | None, sections: EnvSections, placement: EnvPlacement | None = None) -> Env:
    """Makes the environment called `name`.

    Cheap for VizDoom (its engine starts with the first reset), so asking it for `spec` and closing it is
    fine. Raises ConfigError without a name, UnknownEnvError (naming the nearest one), MissingDependencyError
    (naming the extra, package or command that helps) or EnvError.
    """
    if not name:
        raise ConfigError("--env is missing; name an environment, for instance --env=CartPole-v1")
    placement = placement or EnvPlacement()
    if sections.additions.has_env(name) or is_import_path(name):
        return _recorded(_make_own(name, sections, placement), sections)
    family = family_of(name)
    if family is EnvFamily.DOOM:
        from sf_algo.envs.doom.make import make_doom

        return make_doom(name, sections.env, sections.doom, placement)
    if family is EnvFamily.ATARI:
        from sf_algo.envs.atari import make_atari

        return make_atari(name, sections.env, placement)
    if family is EnvFamily.DMLAB:
        from sf_algo.envs.dmlab.make import make_dmlab

        return make_dmlab(name, sections.env, sections.dmlab, placement, experiment=sections.experiment)
    if family is EnvFamily.MUJOCO:
        from sf_algo.envs.mujoco import make_mujoco

        return _recorded(make_mujoco(name, sections.env, render_mode=placement.render_mode), sections)
    from sf_algo.envs.gymnasium_env import make_gymnasium

    env = make_gymnasium(
        name,
        sections.env,
        render_mode=placement.render_mode,
        told=sections.args,
        own_names=sections.additions.envs.keys(),
    )
    return _recorded(env, sections)


def describe_task(name: str | None, sections: EnvSections, placement: EnvPlacement) -> str:
    """What the environment in that place plays, for messages; empty where all environments of a run play the same."""
    if sections.additions.has_env(name) or family_of(name) is not EnvFamily.DMLAB:
        return ""
    from sf_algo.envs.dmlab.make import describe_task as describe

    return describe(str(name), sections.dmlab, placement)


def derived_means(
    name: str | None, sections: EnvSections, played: Sequence[EnvPlacement] | None = None
) -> LevelScores | None:
    """What follows from the averages of the environments' statistics of a run, where something does. `played`: the
    places of its environments; None: any."""
    if sections.additions.has_env(name) or family_of(name) is not EnvFamily.DMLAB:
        return None
    from sf_algo.envs.dmlab.make import run_scores

    return run_scores(str(name), sections.dmlab, played)


def _recorded(env: Env, sections: EnvSections) -> Env:
    if not (sections.env.step_fields or sections.additions.observers):
        return env
    from sf_algo.envs.recording import record_infos

    return record_infos(env, sections.env, extras=bool(sections.additions.observers))


def _make_own(name: str, sections: EnvSections, placement: EnvPlacement) -> Env:
    from sf_algo.envs.custom import make_custom

    more = {**sections.own, "training": sections.training}
    if sections.additions.has_env(name):
        maker = sections.additions.envs[name]
        more["name"] = name
    else:
        maker = load_maker(name)
    return make_custom(name, maker, sections.env, placement, more=more, told=sections.args)


def import_family(name: str | None, additions: Additions = NOTHING_ADDED) -> None:
    """Imports what an environment of that name will import, for processes that are copied from this one. What cannot be
    imported is told when the environment is made."""
    own = name is not None and (additions.has_env(name) or is_import_path(name))
    family = EnvFamily.CUSTOM if own else family_of(name)
    with suppress(ImportError):
        if family is EnvFamily.DOOM:
            import vizdoom  # noqa: F401

            import sf_algo.envs.doom.make
        elif family is EnvFamily.DMLAB:
            import sf_algo.envs.dmlab.make
            from sf_algo.envs.dmlab.engine import load_engine

            load_engine()  # the module alone: whoever forks with an open engine hangs
        elif family is EnvFamily.ATARI:
            import sf_algo.envs.atari
        elif own:  # the user's module itself was imported when its flags were asked for
            import sf_algo.envs.custom
        elif name:
            import sf_algo.envs.gymnasium_env  # noqa: F401


def remove_leftovers(name: str | None) -> list[str]:
    """Removes what killed environments of this family left on the machine; never touches what is in use.

    Returns what was removed. To be called by the main process when a run starts and ends.
    """
    if family_of(name) is EnvFamily.DMLAB:
        from sf_algo.envs.dmlab.temp_folders import remove_dead_folders

        return remove_dead_folders()
    if family_of(name) not in (EnvFamily.DOOM, EnvFamily.CUSTOM):
        return []
    from sf_algo.envs.doom.shm import remove_dead_segments

    return remove_dead_segments()


def remove_own_leftovers() -> None:
    """For a process that dies without closing its environments: before and after it has killed their processes."""
    from sf_algo.envs.dmlab.temp_folders import remove_own_folders
    from sf_algo.envs.doom.shm import remove_own_segments

    remove_own_segments()
    remove_own_folders()
