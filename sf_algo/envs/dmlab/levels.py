"""The levels of DMLab-30, their published scores, and which of them an environment's name stands for.

Sources: Beattie et al. 2016 (DeepMind Lab) and the suite's own page for the levels; Espeholt et al. 2018 (IMPALA),
appendix B, for the scores of humans and of a random policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sf_algo.errors import UnknownEnvError
from sf_algo.own.names import did_you_mean

PREFIX = "dmlab_"
SUITE = "contributed/dmlab30/"
"""Folder of the suite's level scripts."""
HELD_OUT = "_test"
"""Ending of a level that only evaluation may play."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """One level of the suite."""

    name: str
    """As it is trained on."""
    test_name: str
    """As it is evaluated; the same where there is no held-out version."""
    human: float
    random: float
    """Mean return of a person and of a random policy, on the test level."""
    frames: int
    """Length of a random policy's episode in frames (60 a second)."""
    generates_maps: bool
    """Whether episodes have maps of their own, which are compiled when they begin."""


def _level(
    name: str, random: float, human: float, frames: int, *, maps: bool = False, test: str | None = None
) -> Level:
    return Level(name=name, test_name=test or name, human=human, random=random, frames=frames, generates_maps=maps)


DMLAB_30: tuple[Level, ...] = (
    _level("rooms_collect_good_objects_train", 0.073, 10, 3600, test="rooms_collect_good_objects_test"),
    _level("rooms_exploit_deferred_effects_train", 8.501, 85.65, 3600, test="rooms_exploit_deferred_effects_test"),
    _level("rooms_select_nonmatching_object", 0.312, 65.9, 720),
    _level("rooms_watermaze", 4.065, 54, 7200),
    _level("rooms_keys_doors_puzzle", 4.135, 53.8, 3468, maps=True),
    _level("language_select_described_object", -0.07, 389.5, 3600),
    _level("language_select_located_object", 1.929, 280.7, 7200),
    _level("language_execute_random_task", -5.913, 254.05, 7200),
    _level("language_answer_quantitative_question", -0.33, 184.5, 3600),
    _level("lasertag_one_opponent_small", -0.224, 12.65, 14400, maps=True),
    _level("lasertag_three_opponents_small", -0.214, 18.55, 14400, maps=True),
    _level("lasertag_one_opponent_large", -0.083, 18.6, 14400, maps=True),
    _level("lasertag_three_opponents_large", -0.102, 31.5, 14400, maps=True),
    _level("natlab_fixed_large_map", 2.173, 36.9, 7200),
    _level("natlab_varying_map_regrowth", 2.989, 24.45, 7200),
    _level("natlab_varying_map_randomized", 7.346, 42.35, 7200),
    _level("skymaze_irreversible_path_hard", 0.1, 100, 3600, maps=True),
    _level("skymaze_irreversible_path_varied", 14.4, 100, 3372, maps=True),
    _level("psychlab_arbitrary_visuomotor_mapping", 0.163, 58.75, 18000),
    _level("psychlab_continuous_recognition", 0.224, 58.3, 18000),
    _level("psychlab_sequential_comparison", 0.129, 39.5, 18000),
    _level("psychlab_visual_search", 0.085, 78.5, 9000),
    _level("explore_object_locations_small", 3.575, 74.45, 5400, maps=True),
    _level("explore_object_locations_large", 4.673, 65.65, 7200, maps=True),
    _level("explore_obstructed_goals_small", 6.76, 206, 5400, maps=True),
    _level("explore_obstructed_goals_large", 2.61, 119.5, 7200, maps=True),
    _level("explore_goal_locations_small", 7.66, 267.5, 5400, maps=True),
    _level("explore_goal_locations_large", 3.14, 194.5, 7200, maps=True),
    _level("explore_object_rewards_few", 2.073, 77.7, 5400, maps=True),
    _level("explore_object_rewards_many", 2.438, 106.7, 7200, maps=True),
)
"""In the suite's order: worker i or environment i of a run plays level i modulo 30."""

BY_NAME: Mapping[str, Level] = {
    **{level.test_name: level for level in DMLAB_30},
    **{level.name: level for level in DMLAB_30},
}

NEED_PICTURES = ("psychlab_arbitrary_visuomotor_mapping", "psychlab_continuous_recognition")
"""Levels that show photographs, which are not part of the engine."""
_WITH_INSTRUCTIONS = "language_"


@dataclass(frozen=True, kw_only=True)
class Task:
    """What one environment plays."""

    script: str
    """Path of the level below the engine's folder of levels, without its ending."""
    settings: tuple[tuple[str, str], ...] = ()
    """Of the level, other than its own: names and values."""

    @property
    def name(self) -> str:
        """The level's short name."""
        return self.script.rpartition("/")[2]

    @property
    def maps_id(self) -> str:
        """Names the maps that seeds lead to: settings change them."""
        return "+".join([self.name, *(f"{key}={value}" for key, value in sorted(self.settings))])

    @property
    def held_out(self) -> bool:
        return self.name.endswith(HELD_OUT)

    @property
    def has_instructions(self) -> bool:
        return self.name.startswith(_WITH_INSTRUCTIONS)

    @property
    def needs_pictures(self) -> bool:
        return self.name in NEED_PICTURES

    def for_test(self) -> Task:
        """The same as it is evaluated."""
        level = BY_NAME.get(self.name)
        return self if level is None else Task(script=SUITE + level.test_name, settings=self.settings)


def _of_suite(name: str, **settings: str) -> tuple[Task, ...]:
    return (Task(script=SUITE + name, settings=tuple(settings.items())),)


NAMED: Mapping[str, tuple[Task, ...]] = {
    "dmlab_30": tuple(Task(script=SUITE + level.name) for level in DMLAB_30),
    "dmlab_level_cache": tuple(Task(script=SUITE + level.name) for level in DMLAB_30 if level.generates_maps),
    "dmlab_benchmark": _of_suite("rooms_collect_good_objects_train"),
    "dmlab_benchmark_slow_reset": _of_suite("rooms_keys_doors_puzzle"),
    "dmlab_sparse": _of_suite("explore_goal_locations_large"),
    "dmlab_very_sparse": _of_suite("explore_goal_locations_large", minGoalDistance="10"),
    "dmlab_sparse_doors": _of_suite("explore_obstructed_goals_large"),
    "dmlab_nonmatch": _of_suite("rooms_select_nonmatching_object"),
    "dmlab_watermaze": _of_suite("rooms_watermaze"),
}
"""Environments with names of their own: the levels they are made of."""


def tasks_of(env: str) -> tuple[Task, ...]:
    """The levels of the environment called `env`; any level's own name may follow the prefix.

    A short name is one of the suite's, a path is looked up below the engine's folder of levels; whether the engine has
    it is not known here.

    Raises:
        UnknownEnvError: the name is none.
    """
    if env in NAMED:
        return NAMED[env]
    raw = env.removeprefix(PREFIX)
    if raw in BY_NAME:
        return _of_suite(raw)
    if not raw or raw.startswith("/") or raw.endswith("/") or ".." in raw.split("/"):
        raise UnknownEnvError(f"--env={env}: name a level of DeepMind Lab behind {PREFIX}, such as {PREFIX}lt_chasm")
    return (Task(script=raw),)


def unknown_level(env: str, task: Task, known: Mapping[str, object] | list[str]) -> UnknownEnvError:
    """For a level that the engine does not have; `known` are the paths of those it has."""
    nearest = did_you_mean(env, [*NAMED, *(PREFIX + path.removeprefix(SUITE) for path in known)])
    names = ", ".join(NAMED)
    return UnknownEnvError(
        f"--env={env}: the engine has no level {task.script}{nearest} (named environments: {names}; any other level "
        f"as {PREFIX}<level>)"
    )
