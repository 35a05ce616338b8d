"""Makes a DeepMind Lab environment from its name and the flags."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sf_algo.config import DmlabConfig, EnvConfig
from sf_algo.envs.dmlab.actions import action_rows
from sf_algo.envs.dmlab.dmlab_env import DmlabEnv, SeedSource
from sf_algo.envs.dmlab.engine import EngineSettings, LabEngine, known_levels, load_engine
from sf_algo.envs.dmlab.level_cache import LevelCache
from sf_algo.envs.dmlab.levels import BY_NAME, Task, tasks_of, unknown_level
from sf_algo.envs.dmlab.scores import LevelScores, scores_of
from sf_algo.envs.dmlab.tour import LevelTour
from sf_algo.envs.spec import Env, EnvPlacement
from sf_algo.errors import EnvError, MissingDependencyError

_FRAMESKIP = 4
_NUM_PICTURES = 2400
_PLACEHOLDERS = "dummy"
"""Instead of a folder: the engine draws colours where the photographs would be."""


def make_dmlab(
    name: str,
    env_cfg: EnvConfig,
    dmlab_cfg: DmlabConfig,
    placement: EnvPlacement,
    *,
    experiment: Path | None = None,
) -> Env:
    """Starts no engine yet, but knows whether all levels of the run can be played.

    `experiment`: the folder through which its workers share out the maps of the level cache.

    Raises:
        UnknownEnvError: there is no such level.
        MissingDependencyError: the engine or the photographs are missing.
        EnvError: the flags do not fit.
    """
    tasks = _tasks(name, dmlab_cfg)
    check_tasks(name, tasks, env_cfg, dmlab_cfg)
    if placement.render_mode == "human":
        raise EnvError(f"--env={name} has no window of its own; add --no_render or --save_video")
    make = partial(
        _make_one,
        env_cfg=env_cfg,
        dmlab_cfg=dmlab_cfg,
        placement=placement,
        experiment=experiment,
        with_instructions=_with_instructions(tasks, dmlab_cfg),
    )
    if placement.watched:
        return LevelTour([partial(make, task) for task in tasks])
    return make(_task_of(tasks, dmlab_cfg, placement))


def describe_task(name: str, dmlab_cfg: DmlabConfig, placement: EnvPlacement) -> str:
    """What the environment in that place plays, for messages."""
    return f"level {_task_of(_tasks(name, dmlab_cfg), dmlab_cfg, placement).script}"


def run_scores(name: str, dmlab_cfg: DmlabConfig, played: Sequence[EnvPlacement] | None = None) -> LevelScores:
    """How the scores of a run follow from its levels' returns: of the levels that environments in these places play,
    by default of all."""
    tasks = _tasks(name, dmlab_cfg)
    if played is None:
        return scores_of(tasks)
    there = {_task_of(tasks, dmlab_cfg, placement) for placement in played}
    return scores_of([task for task in tasks if task in there])


def check_tasks(name: str, tasks: tuple[Task, ...], env_cfg: EnvConfig, dmlab_cfg: DmlabConfig) -> None:
    """Everything about a run's levels that can be known before an engine starts. Raises as `make_dmlab`."""
    known = known_levels(load_engine())
    for task in tasks:
        if known and task.script not in known:
            raise unknown_level(name, task, known)
    for flag, value in (("res_w", dmlab_cfg.res_w), ("res_h", dmlab_cfg.res_h)):
        if value % 4:
            raise EnvError(f"--{flag}={value}: DeepMind Lab renders multiples of 4; use {value + 4 - value % 4}")
    if env_cfg.env_framestack != 1:
        raise EnvError("--env_framestack is not available for dmlab_* environments; use a recurrent policy")
    hungry = [task.name for task in tasks if task.needs_pictures]
    if hungry and not _has_pictures(dmlab_cfg):
        raise MissingDependencyError(
            f"--dmlab30_dataset={dmlab_cfg.dmlab30_dataset}: there are no pictures 0001.png to {_NUM_PICTURES}.png in "
            f"it, which {' and '.join(hungry)} of --env={name} show; get them as docs/dmlab.md says, or use "
            f"--dmlab30_dataset={_PLACEHOLDERS} for colours in their place"
        )


def _tasks(name: str, dmlab_cfg: DmlabConfig) -> tuple[Task, ...]:
    tasks = tasks_of(name)
    return tuple(task.for_test() for task in tasks) if dmlab_cfg.dmlab_test_levels else tasks


def _task_of(tasks: tuple[Task, ...], dmlab_cfg: DmlabConfig, placement: EnvPlacement) -> Task:
    by_worker = dmlab_cfg.dmlab_one_task_per_worker
    return tasks[(placement.worker_index if by_worker else placement.env_index) % len(tasks)]


def _with_instructions(tasks: tuple[Task, ...], dmlab_cfg: DmlabConfig) -> bool:
    """All environments of a run observe the same."""
    asked = dmlab_cfg.dmlab_with_instructions
    return any(task.has_instructions for task in tasks) if asked is None else asked


def _has_pictures(dmlab_cfg: DmlabConfig) -> bool:
    folder = pictures_folder(dmlab_cfg)
    return folder == _PLACEHOLDERS or all(
        (Path(folder) / f"{number:04d}.png").is_file() for number in (1, _NUM_PICTURES)
    )


def pictures_folder(dmlab_cfg: DmlabConfig) -> str:
    """As the engine takes it."""
    given = dmlab_cfg.dmlab30_dataset
    return given if given == _PLACEHOLDERS else str(Path(given).expanduser())


def cache_folder(dmlab_cfg: DmlabConfig) -> Path:
    return Path(dmlab_cfg.dmlab_level_cache_path).expanduser()


def _make_one(
    task: Task,
    *,
    env_cfg: EnvConfig,
    dmlab_cfg: DmlabConfig,
    placement: EnvPlacement,
    experiment: Path | None,
    with_instructions: bool,
) -> DmlabEnv:
    cache = None
    if dmlab_cfg.dmlab_use_level_cache:
        limit = dmlab_cfg.dmlab_level_cache_max_gb
        max_bytes = None if limit is None else int(limit * 1e9)
        cache = LevelCache(cache_folder(dmlab_cfg), task, experiment=experiment, max_bytes=max_bytes)
    gpus = dmlab_cfg.dmlab_gpus or (0,)
    settings = EngineSettings(
        task=task,
        width=dmlab_cfg.res_w,
        height=dmlab_cfg.res_h,
        hardware=dmlab_cfg.dmlab_renderer == "hardware",
        gpu=gpus[placement.worker_index % len(gpus)],
        pictures=pictures_folder(dmlab_cfg),
        with_instructions=with_instructions,
        test=dmlab_cfg.dmlab_test_levels,
    )
    return DmlabEnv(
        task,
        LabEngine(settings, cache),
        actions=action_rows(extended=dmlab_cfg.dmlab_extended_action_set),
        frameskip=env_cfg.env_frameskip or _FRAMESKIP,
        size=(dmlab_cfg.res_h, dmlab_cfg.res_w),
        with_instructions=with_instructions,
        cache=cache,
        seeds=_seed_source(task, dmlab_cfg, placement),
    )


def _seed_source(task: Task, dmlab_cfg: DmlabConfig, placement: EnvPlacement) -> SeedSource:
    if dmlab_cfg.dmlab_throughput_benchmark:
        return "fixed"
    if placement.reproducible or dmlab_cfg.dmlab_test_levels:
        return "reset"
    known = BY_NAME.get(task.name)
    return "any" if known is not None and not known.generates_maps else "cache"
