"""Experiments as a report sees them: configuration, seed, how they ended. From a run's journal."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from sf_runner.basics.paths import JobPaths, RunPaths
from sf_runner.describe.values import ABSENT, BARE
from sf_runner.engine.snapshot import state_name
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import ACTIVE, JobRecord, last_cause, running_of

RECORDED = "recorded"
TASK_NAMES = ("env", "env_name", "env_id", "task", "game", "level", "scenario", "dataset", "domain")
"""Parameters that say what is learned: results of different tasks are not compared."""
_NOT_GIVEN = (str(ABSENT), str(BARE))
"""What the journal has for parameters that have no value."""
SEED_NAMES = ("seed", "random_seed", "rng_seed")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One job.

    params: its parameters without the seed; numbers, texts, booleans or None.
    task: what it learns, from a parameter or the command, e.g. the name of the environment; empty when nothing tells.
    config: equal for experiments of a run that differ by their seed only.
    state: as `status` names it, e.g. `succeeded`; `recorded` when only its files tell of it and not how it ended.
    wall_time_s: of all its attempts together; None when it has not run, or nothing tells.
    error: why it failed, or why its last attempt did; one line.
    """

    run: str
    job_id: str
    index: int
    base_name: str
    params: Mapping[str, object]
    seed: str | None
    task: str
    config: str
    state: str
    attempts: int
    wall_time_s: float | None
    error: str
    paths: JobPaths

    @property
    def name(self) -> str:
        return self.job_id.rsplit("/", 1)[-1]

    @property
    def succeeded(self) -> bool:
        """Whether its numbers are final as far as anybody knows."""
        return self.state in ("succeeded", RECORDED)


def experiments_of(state: RunState, paths: RunPaths, *, now: float) -> list[Experiment]:
    """The planned jobs of a run in the order of its description."""
    records = sorted((r for r in state.jobs.values() if r.planned), key=lambda record: record.index)
    return [_experiment(record, paths, now) for record in records]


def _experiment(record: JobRecord, paths: RunPaths, now: float) -> Experiment:
    params = dict(record.params)
    seed = record.seed
    if seed is not None:
        params.pop(record.seed_param, None)
    return Experiment(
        run=paths.run_name,
        job_id=record.job_id,
        index=record.index,
        base_name=_base_name(record.job_id),
        params=params,
        seed=None if seed is None else str(seed),
        task=_task(params, shlex.join(record.argv)),
        config=record.config or record.job_id,
        state=state_name(record),
        attempts=record.attempts,
        wall_time_s=_wall_time_s(record, now),
        error=_error(record),
        paths=paths.job(record.job_id),
    )


def _base_name(job_id: str) -> str:
    """The experiment's folder is `<base_name>_<suffix>`: without a suffix the base name, else both."""
    folder = job_id.split("/", 1)[0]
    return folder[:-1] if folder.endswith("_") and len(folder) > 1 else folder


def _task(params: Mapping[str, object], command: str) -> str:
    for name in TASK_NAMES:
        if params.get(name) not in (None, *_NOT_GIVEN):
            return str(params[name])
        if found := re.search(rf"(?:\A|\s)--{name}[= ](\S+)", command):
            return found[1].strip("'\"")
    return ""


def _wall_time_s(record: JobRecord, now: float) -> float | None:
    state = record.state
    running = running_of(state)
    live_s = running.elapsed_s(now) if running is not None else 0.0
    total_s = record.elapsed_s + max(live_s, 0.0)
    return total_s if record.attempts and (total_s > 0 or not isinstance(state, ACTIVE)) else None


def _error(record: JobRecord) -> str:
    cause = last_cause(record.state)
    return cause.summary if cause is not None else ""
