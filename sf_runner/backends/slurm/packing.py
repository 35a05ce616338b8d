"""From attempts that are to start to arrays: one per shape, cut to what the cluster takes. Pure."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sf_runner.backends.base import Launch
from sf_runner.backends.slurm.batches import BatchHeader, BatchPaths, TaskJob
from sf_runner.backends.slurm.script import JobShape, ScriptSettings, render_script
from sf_runner.backends.slurm.time_limit import USUAL_AHEAD_S, needs_own_clock


@dataclass(frozen=True, kw_only=True)
class SubmitSettings:
    """How a run submits. `shape_of`: what a job asks for, by its name."""

    script: ScriptSettings
    shape_of: Callable[[str], JobShape]
    run_id: str
    max_parallel: int | None = None
    """Experiments side by side; None: no limit."""
    grace_s: float = 30.0
    max_requeues: int = 100
    experiments_per_task: int = 1
    """At most."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """An array that is ready to be written and submitted."""

    paths: BatchPaths
    header: BatchHeader
    tasks: Sequence[Sequence[TaskJob]]
    script: str


def make_drafts(
    launches: Sequence[Launch], settings: SubmitSettings, folders: Iterator[BatchPaths], *, tasks_per_array: int
) -> list[Draft]:
    """The arrays for these attempts, in the order in which each shape first appears."""
    by_shape: dict[JobShape, list[Launch]] = {}
    for launch in launches:
        by_shape.setdefault(settings.shape_of(launch.job), []).append(launch)
    parts: list[tuple[JobShape, list[list[TaskJob]]]] = []
    for shape, some in by_shape.items():
        tasks = [_task(some[at : at + shape.experiments]) for at in range(0, len(some), shape.experiments)]
        parts += [(shape, tasks[at : at + tasks_per_array]) for at in range(0, len(tasks), tasks_per_array)]
    return [_draft(shape, tasks, settings, next(folders)) for shape, tasks in parts]


def _task(launches: Sequence[Launch]) -> list[TaskJob]:
    return [
        TaskJob(
            job=launch.job,
            attempt=launch.attempt,
            argv=launch.argv,
            env=launch.env,
            folder=os.path.dirname(launch.exit_record),  # noqa: PTH120
        )
        for launch in launches
    ]


def _draft(shape: JobShape, tasks: list[list[TaskJob]], settings: SubmitSettings, paths: BatchPaths) -> Draft:
    """With a throttle as if it had the cluster for itself; see `sharing`."""
    script, limit = settings.script, settings.max_parallel
    side_by_side = shape.side_by_side if limit is None else min(shape.side_by_side, limit)
    throttle = 0 if limit is None or len(tasks) * side_by_side <= limit else limit // side_by_side
    header = BatchHeader(
        run_id=settings.run_id,
        num_tasks=len(tasks),
        side_by_side=side_by_side,
        timeout_s=_own_timeout(script),
        grace_s=settings.grace_s,
        signal_ahead_s=USUAL_AHEAD_S if script.signal_ahead_s is None else script.signal_ahead_s,
        fits_ahead=script.signal_ahead_s is None,
        max_requeues=settings.max_requeues,
        asks_end=script.template is not None or needs_own_clock(script.limit, script.ahead_s),
        throttle=throttle,
        cluster=script.cluster,
    )
    text = render_script(script, shape, batch=str(paths.root), num_tasks=len(tasks), throttle=throttle)
    return Draft(paths=paths, header=header, tasks=tasks, script=text)


def _own_timeout(script: ScriptSettings) -> float | None:
    """A template's own `timeout $TIMEOUT` must come second: what it does then starts a job anew."""
    if script.timeout_s is None or script.template is None or "TIMEOUT" not in script.template:
        return script.timeout_s
    return script.timeout_s - min(30.0, 0.1 * script.timeout_s)
