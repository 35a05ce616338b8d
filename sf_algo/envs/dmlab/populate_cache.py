"""Fills the level cache ahead of a training: `python -m sf_algo.envs.dmlab.populate_cache --for_frames=1e9`.

Stop it whenever you like and start it again: it counts what is there. Several of them may run at once, also on
machines that share the folder.
"""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sf_algo.config import DmlabConfig, EnvConfig
from sf_algo.cpus import usable_cpus
from sf_algo.envs.dmlab.arguments import positive
from sf_algo.envs.dmlab.crew import Member
from sf_algo.envs.dmlab.filling import Answer, Order, fill
from sf_algo.envs.dmlab.level_maps import MapStore
from sf_algo.envs.dmlab.level_seeds import SEED_LIMIT, SeedLists
from sf_algo.envs.dmlab.levels import BY_NAME, Task, tasks_of
from sf_algo.envs.dmlab.make import cache_folder, check_tasks
from sf_algo.envs.dmlab.temp_folders import remove_dead_folders
from sf_algo.errors import EnvError, SfAlgoError

_COMMAND = "python -m sf_algo.envs.dmlab.populate_cache"
_MOST_FAILURES = 5
"""Of a level in a row, after which it is given up."""
_RECOUNT_S = 60.0
"""Others may be filling the same cache."""


class Demand:
    """What is still missing of every level."""

    def __init__(self, folder: Path, goals: Mapping[Task, int]) -> None:
        self.goals = goals
        self._folder = folder
        self.counts: Counter[Task] = Counter()
        self._under_way: Counter[Task] = Counter()
        self._failures: Counter[Task] = Counter()
        self.given_up: dict[Task, str] = {}
        self.recount()

    def recount(self) -> None:
        for task in self.goals:
            self.counts[task] = len(SeedLists(self._folder, task).all())

    def missing(self, task: Task) -> int:
        """Episodes that nobody is compiling yet."""
        return 0 if task in self.given_up else self.goals[task] - self.counts[task] - self._under_way[task]

    def next(self, before: Task | None) -> Task | None:
        """The level that a process should go on with, preferably the one it has open; None: nothing is left to do."""
        if before is not None and self.missing(before) > 0:
            return before
        task = max(self.goals, key=self.missing)
        return task if self.missing(task) > 0 else None

    def begun(self, task: Task) -> None:
        self._under_way[task] += 1

    def ended(self, task: Task, answer: Answer | None) -> None:
        """`answer` None: the process died."""
        self._under_way[task] -= 1
        if answer is not None and answer.noted:
            self.counts[task] += 1
            self._failures[task] = 0
        elif answer is not None and not answer.has_maps:
            self.given_up[task] = "has no maps to be compiled"
        else:
            self._failures[task] += 1
            if self._failures[task] >= _MOST_FAILURES:
                why = answer.error if answer is not None and answer.error else "ended the engine"
                kept = answer is None or bool(answer.error)
                self.given_up[task] = f"{why}, {_MOST_FAILURES} times" if kept else "is not kept in the cache any more"


class Boss:
    """Keeps the processes busy until nothing is missing."""

    def __init__(self, demand: Demand, folder: Path, max_bytes: int | None, processes: int, console: Console) -> None:
        self._demand, self._folder, self._max_bytes, self._console = demand, folder, max_bytes, console
        self._fillers: list[Member[Order, Answer]] = [self._new() for _ in range(processes)]
        self._next_recount = time.monotonic() + _RECOUNT_S

    def _new(self) -> Member[Order, Answer]:
        return Member(fill, self._folder, self._max_bytes)

    def run(self, progress: Progress) -> None:
        bars = {
            task: progress.add_task(task.maps_id, total=goal, completed=self._demand.counts[task])
            for task, goal in self._demand.goals.items()
        }
        for index in range(len(self._fillers)):
            self._order(index)
        while busy := {filler.pipe: i for i, filler in enumerate(self._fillers) if filler.order is not None}:
            for ready in wait(list(busy), timeout=1.0):
                assert isinstance(ready, Connection)
                self._take(busy[ready])
            if time.monotonic() >= self._next_recount:
                self._next_recount = time.monotonic() + _RECOUNT_S
                self._demand.recount()
            for task, bar in bars.items():
                progress.update(bar, completed=self._demand.counts[task])

    def _order(self, index: int) -> None:
        filler = self._fillers[index]
        task = self._demand.next(filler.order.task if filler.order is not None else None)
        filler.order = None
        if task is not None:
            self._demand.begun(task)
            filler.begin(Order(task=task, seed=secrets.randbelow(SEED_LIMIT)))

    def _take(self, index: int) -> None:
        filler = self._fillers[index]
        order, answer = filler.order, filler.answer()
        assert order is not None
        known = set(self._demand.given_up)
        self._demand.ended(order.task, answer)
        if answer is None:
            self._console.print(
                f"level {order.task.script} ended its engine with seed {order.seed}", highlight=False, soft_wrap=True
            )
            filler.close()
            remove_dead_folders()
            self._fillers[index] = self._new()
            self._fillers[index].order = order
        for task in set(self._demand.given_up) - known:
            self._console.print(
                f"level {task.script} {self._demand.given_up[task]}: given up", highlight=False, soft_wrap=True
            )
        self._order(index)

    def close(self) -> None:
        for filler in self._fillers:
            filler.close()
        remove_dead_folders()


def goals_of(env: str, *, episodes: int | None, for_frames: float | None) -> dict[Task, int]:
    """How many episodes of each level are to be in the cache. Raises EnvError, UnknownEnvError."""
    tasks = tasks_of(env)
    compiled = [task for task in tasks if task.name not in BY_NAME or BY_NAME[task.name].generates_maps]
    if not compiled:
        raise EnvError(f"--env={env}: its levels have maps of their own; nothing is to be compiled")
    if episodes is not None:
        return dict.fromkeys(compiled, episodes)
    if unknown := [task.name for task in compiled if task.name not in BY_NAME]:
        raise EnvError(f"--for_frames: nobody knows how long episodes of {unknown[0]} are; use --episodes")
    frames = (for_frames or 0.0) / len(tasks)
    return {task: max(1, round(frames / BY_NAME[task.name].frames)) for task in compiled}


def populate(options: argparse.Namespace) -> int:
    """The command without its command line. Raises SfAlgoError."""
    flags = DmlabConfig(dmlab_level_cache_path=options.dmlab_level_cache_path)
    goals = goals_of(options.env, episodes=options.episodes, for_frames=options.for_frames)
    check_tasks(options.env, tuple(goals), EnvConfig(), flags)
    folder = cache_folder(flags)
    store = MapStore(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvError(f"--dmlab_level_cache_path={folder}: {error.strerror or error}") from error
    store.remove_leftovers()
    remove_dead_folders()
    demand = Demand(folder, goals)
    console = Console(stderr=True)
    max_gb = options.dmlab_level_cache_max_gb
    boss = Boss(demand, folder, None if max_gb is None else int(max_gb * 1e9), options.processes, console)
    interrupted = False
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console) as progress:
            boss.run(progress)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        boss.close()
    maps, size = store.size()
    there = sum(min(demand.counts[task], goal) for task, goal in goals.items())
    print(f"{there} of {sum(goals.values())} episodes are in {folder}: {maps} maps, {size / 1e9:.2f} GB")
    return 130 if interrupted else 1 if demand.given_up else 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 0 when all is there, 1 when a level was given up, 130 when interrupted."""
    options = _parser().parse_args(argv)
    if options.episodes is None and options.for_frames is None:
        options.for_frames = 1e9
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return populate(options)
    except SfAlgoError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=_COMMAND, description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--env", default="dmlab_level_cache", help="whose levels (%(default)s: all that need it)")
    parser.add_argument("--episodes", type=positive, help="so many of each level, those in the cache included")
    parser.add_argument("--for_frames", type=float, help="as many as a training of so many frames plays (1e9)")
    parser.add_argument("--processes", type=positive, default=usable_cpus(), help="engines at once (%(default)s)")
    parser.add_argument("--dmlab_level_cache_path", default=DmlabConfig().dmlab_level_cache_path, help="(%(default)s)")
    parser.add_argument("--dmlab_level_cache_max_gb", type=float, help="keep no more than this (GB)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
