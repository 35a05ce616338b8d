"""Scores of a trained policy on the levels of DMLab-30, with intervals: the body of
`python -m sf_algo.envs.dmlab.evaluate`.

Every episode has a seed that follows from the run's, the level and its number, so results do not depend on how many
processes share the work. A level that ends its process costs that episode.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from sf_algo.config import DmlabConfig, EnvConfig
from sf_algo.envs.dmlab.crew import Member, answer_all
from sf_algo.envs.dmlab.instructions import INSTRUCTIONS
from sf_algo.envs.dmlab.levels import BY_NAME, PREFIX, Task, tasks_of
from sf_algo.envs.dmlab.make import check_tasks, make_dmlab
from sf_algo.envs.dmlab.scores import CAP, ScoreRow, human_normalized, score_table
from sf_algo.envs.dmlab.temp_folders import remove_dead_folders
from sf_algo.envs.spec import Env, EnvPlacement
from sf_algo.errors import EnvCrashedError, SfAlgoError
from sf_algo.files import write_bytes_atomically
from sf_algo.model.actor import Actor
from sf_algo.rollout.episodes import mix_seed
from sf_algo.watching.evaluation import Player, PlayLimits
from sf_algo.watching.load_policy import TrainedPolicy, load_policy

Order: TypeAlias = "tuple[int, int]"
"""Number of the level in the list, number of the episode."""
Answer: TypeAlias = "float | str"
"""The raw return, or in one line what went wrong."""

_RESAMPLES = 4000
_NO_END = 1 << 62


class LevelPlayer:
    """Plays episodes of any level with one policy. The engine of a level stays open while its episodes come: every
    engine that is opened and closed costs its process some memory for ever."""

    def __init__(self, options: argparse.Namespace, scripts: Sequence[str]) -> None:
        torch.set_num_threads(1)
        self._options = options
        self._scripts = scripts
        self._policy = load_policy_of(options)
        self._level = -1
        self._env: Env | None = None

    def carry_out(self, order: Order) -> Answer:
        level, episode = order
        seed = mix_seed(self._options.seed, level, episode)
        model = self._policy.model
        if self._env is None or level != self._level:
            self.close()
            self._level, self._env = level, self._open(level)
        actor = Actor(model, seed=seed, deterministic=self._options.eval_deterministic)
        player = Player(self._env, actor, rnn_state_size=model.rnn_state_size, seed=seed)
        limits = PlayLimits(max_episodes=1, max_frames=_NO_END, frames_per_second=0)
        try:
            ((result,),) = player.play(limits)
        except EnvCrashedError as error:
            self.close()
            return str(error)
        return result.metrics()["true_reward"]

    def _open(self, level: int) -> Env:
        config = self._policy.config
        flags = replace(
            config.dmlab,
            dmlab_with_instructions=INSTRUCTIONS in self._policy.spec.obs,
            dmlab_test_levels=not self._options.training_levels,
        )
        return make_dmlab(PREFIX + self._scripts[level], config.env, flags, EnvPlacement())

    def close(self) -> None:
        env, self._env = self._env, None
        if env is not None:
            env.close()


def play_levels(orders: Connection, options: argparse.Namespace, scripts: Sequence[str]) -> None:
    """Body of a process."""
    player = LevelPlayer(options, scripts)
    try:
        answer_all(orders, player.carry_out)
    finally:
        player.close()


def load_policy_of(options: argparse.Namespace) -> TrainedPolicy:
    """Raises SfAlgoError."""
    flags = ["--dmlab_throughput_benchmark=False", "--dmlab_one_task_per_worker=False"]
    for name in ("dmlab30_dataset", "dmlab_level_cache_path"):
        if getattr(options, name) is not None:
            flags.append(f"--{name}={getattr(options, name)}")
    folder = Path(options.train_dir) / options.experiment
    return load_policy(folder, kind=options.load_checkpoint_kind, policy=options.policy_index, flags=flags)


class Evaluation:
    """Shares the episodes out and collects what came of them."""

    def __init__(self, options: argparse.Namespace, tasks: Sequence[Task]) -> None:
        self._options = options
        self._tasks = tasks
        self.returns: list[list[float]] = [[] for _ in tasks]
        self.failures: Counter[int] = Counter()
        self._orders = [(level, episode) for level in range(len(tasks)) for episode in range(options.episodes)]
        self._orders.reverse()
        processes = min(options.processes, len(self._orders))
        self._crew = [self._member() for _ in range(processes)]

    def _member(self) -> Member[Order, Answer]:
        return Member(play_levels, self._options, [task.script for task in self._tasks])

    def run(self) -> None:
        for member in self._crew:
            self._give(member)
        while busy := {member.pipe: index for index, member in enumerate(self._crew) if member.order is not None}:
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                self._take(busy[ready])

    def _give(self, member: Member[Order, Answer]) -> None:
        member.order = None
        if self._orders:
            member.begin(self._orders.pop())

    def _take(self, index: int) -> None:
        member = self._crew[index]
        order, answer = member.order, member.answer()
        assert order is not None
        level, episode = order
        script = self._tasks[level].script
        if isinstance(answer, float):
            self.returns[level].append(answer)
            print(f"{script} episode {episode}: {answer:.2f}", flush=True)
        else:
            self.failures[level] += 1
            why = answer or "it ended its process"
            print(f"{script} episode {episode} is lost: {why}", file=sys.stderr, flush=True)
        if answer is None:
            member.close()
            remove_dead_folders()
            self._crew[index] = member = self._member()
        self._give(member)

    def close(self) -> None:
        for member in self._crew:
            member.close()
        remove_dead_folders()


def interval(values: Sequence[float], rng: np.random.Generator) -> tuple[float, float] | None:
    """95 % of the means of resampled episodes (percentile bootstrap); None for a single one."""
    if len(values) < 2:
        return None
    means = _resampled_means(values, rng)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def capped_mean(returns: Mapping[str, Sequence[float]], rng: np.random.Generator) -> dict[str, Any] | None:
    """The suite's score from the returns of every level that has any, with its interval; None without any."""
    levels = {level: found for level, found in returns.items() if found and level in BY_NAME}
    if not levels:
        return None
    scores = [min(_normalized(level, float(np.mean(found))), CAP) for level, found in levels.items()]
    resampled = [
        np.minimum([_normalized(level, mean) for mean in _resampled_means(found, rng)], CAP)
        for level, found in levels.items()
    ]
    low, high = np.percentile(np.mean(resampled, axis=0), [2.5, 97.5])
    return {"capped_mean": float(np.mean(scores)), "interval": [float(low), float(high)], "levels": len(levels)}


def _normalized(level: str, raw: float) -> float:
    score = human_normalized(level, raw)
    assert score is not None
    return score


def _resampled_means(values: Sequence[float], rng: np.random.Generator) -> Any:
    array = np.asarray(values, np.float64)
    return array[rng.integers(len(array), size=(_RESAMPLES, len(array)))].mean(axis=1)


def rows_of(returns: Mapping[str, Sequence[float]], rng: np.random.Generator) -> list[ScoreRow]:
    """A table's rows of the levels that have episodes; intervals are of human-normalized scores where there are any."""
    rows = []
    for level, found in returns.items():
        if not found:
            continue
        mean, bounds = float(np.mean(found)), interval(found, rng)
        score = human_normalized(level, mean)
        if bounds is not None and score is not None:
            bounds = (_normalized(level, bounds[0]), _normalized(level, bounds[1]))
        rows.append(ScoreRow(level=level, episodes=len(found), raw=mean, human_normalized=score, interval=bounds))
    return rows


def evaluate(options: argparse.Namespace) -> int:
    """Plays, prints the table and writes it into the experiment's folder; returns the exit code. Raises SfAlgoError."""
    tasks = tasks_of(options.env)
    if not options.training_levels:
        tasks = tuple(task.for_test() for task in tasks)
    policy = load_policy_of(options)
    check_tasks(options.env, tasks, EnvConfig(), _flags_of(policy))
    remove_dead_folders()
    print(f"{policy.path}, {len(tasks)} levels, {options.episodes} episodes of each, seed {options.seed}", flush=True)
    evaluation = Evaluation(options, tasks)
    interrupted = False
    try:
        evaluation.run()
    except KeyboardInterrupt:
        interrupted = True
    finally:
        evaluation.close()
    returns = {task.name: found for task, found in zip(tasks, evaluation.returns, strict=True)}
    rng = np.random.default_rng(options.seed)
    rows, total = rows_of(returns, rng), capped_mean(returns, rng)
    print(score_table(rows, len(tasks)))
    if total is not None:
        low, high = total["interval"]
        print(f"capped mean {total['capped_mean']:.1f}, 95 % interval {low:.1f} to {high:.1f}")
    _write(options, policy, rows, total, returns)
    return 130 if interrupted else 1 if evaluation.failures else 0


def _flags_of(policy: TrainedPolicy) -> DmlabConfig:
    return policy.config.dmlab


def _write(
    options: argparse.Namespace,
    policy: TrainedPolicy,
    rows: Sequence[ScoreRow],
    total: Mapping[str, Any] | None,
    returns: Mapping[str, Sequence[float]],
) -> None:
    document = {
        "version": 1,
        "checkpoint": policy.path.name,
        "env_steps": policy.env_steps,
        "seed": options.seed,
        "held_out": not options.training_levels,
        "total": total,
        "levels": [{**vars(row), "returns": returns[row.level]} for row in rows],
    }
    which = "training" if options.training_levels else "test"
    name = f"dmlab_scores_p{options.policy_index}_{which}.json"
    path = Path(options.train_dir) / options.experiment / name
    write_bytes_atomically(path, json.dumps(document, indent=2).encode() + b"\n", what="scores")
    print(f"results: {path}")


def main(options: argparse.Namespace) -> int:
    """The command behind its command line; returns the exit code."""
    try:
        return evaluate(options)
    except SfAlgoError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
