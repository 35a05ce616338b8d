"""One process that compiles maps for the level cache: it resets an engine with the seeds that it is told."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from sf_algo.envs.dmlab.actions import action_rows
from sf_algo.envs.dmlab.crew import answer_all
from sf_algo.envs.dmlab.dmlab_env import WARM_UP_SEED
from sf_algo.envs.dmlab.engine import EngineSettings, LabEngine
from sf_algo.envs.dmlab.level_cache import LevelCache
from sf_algo.envs.dmlab.levels import Task
from sf_algo.errors import EnvError

_SMALL = 32, 24
"""Width and height: nobody looks."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """One map, or as many as an episode of that seed has."""

    task: Task
    seed: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of an order."""

    noted: bool
    """The maps are in the cache, and so is the seed."""
    has_maps: bool
    """The level asked for maps at all."""
    error: str = ""
    """One line where the engine refused."""


class _Filler:
    """Keeps the engine of one level open."""

    def __init__(self, folder: Path, max_bytes: int | None) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._task: Task | None = None
        self._engine: LabEngine | None = None
        self._cache: LevelCache | None = None

    def carry_out(self, order: Order) -> Answer:
        try:
            if order.task != self._task or self._engine is None:
                self._open(order.task)
            return self._reset(order.seed)
        except EnvError as error:
            self.close()
            return Answer(noted=False, has_maps=True, error=str(error))

    def _open(self, task: Task) -> None:
        self.close()
        width, height = _SMALL
        self._task = task
        self._cache = LevelCache(self._folder, task, max_bytes=self._max_bytes)
        self._engine = LabEngine(EngineSettings(task=task, width=width, height=height), self._cache)
        self._engine.start()
        self._reset(WARM_UP_SEED, note=False)  # the first episode of an engine has another map
        self._engine.step(action_rows(extended=False)[0], 1)

    def _reset(self, seed: int, *, note: bool = True) -> Answer:
        assert self._engine is not None
        assert self._cache is not None
        self._cache.begin_episode()
        self._engine.reset(seed)
        return Answer(noted=note and self._cache.end_of_reset(seed), has_maps=self._cache.asked)

    def close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()


def fill(orders: Connection, folder: Path, max_bytes: int | None) -> None:
    """Body of the process: an `Answer` for every `Order`. An engine that dies takes the process along."""
    filler = _Filler(folder, max_bytes)
    try:
        answer_all(orders, filler.carry_out)
    finally:
        filler.close()
