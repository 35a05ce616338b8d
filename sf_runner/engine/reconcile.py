"""A plan meets the state of an earlier start: what is new, what is gone, what changed. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from sf_runner.basics.errors import UsageError
from sf_runner.describe.description import Resources
from sf_runner.describe.plan import Job, Plan
from sf_runner.describe.values import PLAIN_TYPES, json_value
from sf_runner.slots.types import SlotRequest
from sf_runner.state import events as ev
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import ACTIVE, ENDED, Cancelled, Failed, JobRecord, Succeeded

ChangedPolicy = Literal["refuse", "keep", "rerun"]
"""What to do with jobs that have already run and whose command is another one now."""

_JOBS_PER_EVENT = 500
"""A journal line per job would be as safe; one line for all of a large run takes megabytes to write and to read."""

Order = Literal["submission", "seed_major", "longest_first", "shortest_first"]


def ranks(plan: Plan, order: Order, expected_s: Mapping[str, float]) -> dict[str, float]:
    """Rank of each job, lowest first. `expected_s`: measured duration per `Job.config_key`; unknown ones count as
    the mean of the known ones, so that a single surprise does not reorder everything."""
    if order == "submission":
        return {job.job_id: job.index for job in plan.jobs}
    jobs = list(plan.jobs)
    if order == "seed_major":
        jobs.sort(key=lambda job: job.seed_major_key)
    else:
        known = [expected_s[job.config_key] for job in jobs if job.config_key in expected_s]
        mean = sum(known) / len(known) if known else 0.0
        sign = -1.0 if order == "longest_first" else 1.0
        jobs.sort(key=lambda job: (sign * expected_s.get(job.config_key, mean), job.index))
    return {job.job_id: rank for rank, job in enumerate(jobs)}


@lru_cache(maxsize=256)
def shape_of(resources: Resources) -> str:
    """Jobs of one shape ask for the same; empty for the run's settings."""
    asked = [(name, getattr(resources, name)) for name in ("cpus", "gpu_memory_mb", "gpus")]
    return ",".join(f"{name}={value}" for name, value in asked if value is not None)


def slot_requests(plan: Plan) -> dict[str, SlotRequest]:
    """What each shape asks for. Jobs that set GPU or thread variables themselves are shapes of their own."""
    found: dict[str, SlotRequest] = {}
    for job in plan.jobs:
        shape = job_shape(job)
        if shape not in found:
            found[shape] = SlotRequest(
                gpus=job.resources.gpus,
                cpus=job.resources.cpus,
                gpu_memory_mb=job.resources.gpu_memory_mb,
                user_env=frozenset(_placement_env(job)),
            )
    return found


def job_shape(job: Job) -> str:
    """What of a job bears on where it can run; jobs of one shape are placed alike."""
    shape = shape_of(job.resources)
    if job.env and (own := _placement_env(job)):
        shape += ";" + ";".join(f"{k}={v}" for k, v in sorted(own))
    return shape


def _placement_env(job: Job) -> list[tuple[str, str]]:
    """Variables of the description that bear on its placement."""
    return [(k, v) for k, v in job.env.items() if k.startswith("CUDA_") or k.endswith("_NUM_THREADS")]


def entry(job: Job, rank: float, seed_param: str = "seed") -> dict[str, Any]:
    """A job as the journal describes it. Shares its parts with the job: a run may have many thousands."""
    body: dict[str, Any] = {
        "id": job.job_id,
        "index": job.index,
        "rank": rank,
        "fp": job.fingerprint,
        "config": job.config_key,
        "argv": job.argv,
    }
    if shape := job_shape(job):
        body["shape"] = shape
    if job.resources.timeout_s is not None:
        body["timeout_s"] = job.resources.timeout_s
    if job.params:
        body["params"] = _plain(job.params)
    if job.seed is not None:
        body["seed"] = job.seed
        if seed_param != "seed":
            body["seed_param"] = seed_param
    return body


def _plain(params: Mapping[str, object]) -> Mapping[str, object]:
    """Values that JSON does not have become text."""
    if all(map(_is_json, params.values())):
        return params
    return {name: json_value(value) for name, value in params.items()}


def _is_json(value: object) -> bool:
    return type(value) in PLAIN_TYPES and (type(value) is not float or math.isfinite(value))


def _is_described_by(record: JobRecord, job: Job) -> bool:
    """Whether the journal says of the job what the plan says. Its parameters are part of its command."""
    return (
        record.fingerprint == job.fingerprint
        and tuple(record.argv) == job.argv
        and record.config == job.config_key
        and record.timeout_s == job.resources.timeout_s
        and record.shape == job_shape(job)
    )


def reconcile(
    plan: Plan,
    state: RunState,
    *,
    ranks_by_job: Mapping[str, float],
    changed: ChangedPolicy,
    retry: Sequence[Literal["failed", "cancelled"]],
    now: float,
) -> list[ev.Event]:
    """The events that bring the state of an earlier start in line with the plan.

    Raises:
        UsageError: jobs that have run would mean something else now, and `changed` is "refuse".
    """
    new: list[Job] = []
    edits: list[dict[str, Any]] = []
    different: list[str] = []
    requeue: list[str] = []
    again = tuple(kind for name, kind in (("failed", Failed), ("cancelled", Cancelled)) if name in retry)
    for job in plan.jobs:
        record = state.jobs.get(job.job_id)
        if record is None:
            new.append(job)
            continue
        edits.extend(_edit(record, job, ranks_by_job[job.job_id], plan.seed_param))
        rerun = False
        if record.fingerprint != job.fingerprint and record.attempts:
            different.append(job.job_id)
            rerun = changed == "rerun" and isinstance(record.state, ENDED)
        if rerun or isinstance(record.state, again):
            requeue.append(job.job_id)
    _refuse_changes(different, changed, state)
    gone = _gone(plan, state)
    edits.extend({"id": job, "planned": False} for job in gone)
    planned = [entry(job, ranks_by_job[job.job_id], plan.seed_param) for job in new]
    return [
        *(ev.JobsPlanned(t=now, jobs=jobs) for jobs in _portions(planned)),
        *(ev.JobsChanged(t=now, jobs=jobs) for jobs in _portions(edits)),
        *(ev.JobRequeued(t=now, job=job) for job in requeue),
        *_notes(len(new), gone, different, state, changed, now),
    ]


def _portions(entries: Sequence[dict[str, Any]]) -> list[Sequence[dict[str, Any]]]:
    return [entries[first : first + _JOBS_PER_EVENT] for first in range(0, len(entries), _JOBS_PER_EVENT)]


def _edit(record: JobRecord, job: Job, rank: float, seed_param: str) -> list[dict[str, Any]]:
    """What the journal has to learn about a job it knows; empty when nothing."""
    if not _is_described_by(record, job):
        return [{**entry(job, rank, seed_param), "planned": True}]
    body: dict[str, Any] = {}
    if not record.planned:
        body["planned"] = True
    if record.index != job.index:
        body["index"] = job.index
    if record.rank != rank and not isinstance(record.state, Succeeded):
        body["rank"] = rank
    return [{"id": job.job_id, **body}] if body else []


def _gone(plan: Plan, state: RunState) -> list[str]:
    if not state.jobs:
        return []
    planned = {job.job_id for job in plan.jobs}
    return [record.job_id for record in state.jobs.values() if record.planned and record.job_id not in planned]


def _refuse_changes(different: Sequence[str], changed: ChangedPolicy, state: RunState) -> None:
    if not different:
        return
    if changed == "refuse":
        raise UsageError(
            f"{len(different)} experiment(s) that have already run have another command now, e.g. '{different[0]}': "
            "--changed=keep takes their results as they are, --changed=rerun runs them again, "
            "--experiment_suffix or another run_name keeps both"
        )
    live = [job for job in different if isinstance(state.jobs[job].state, ACTIVE)]
    if live and changed == "rerun":
        raise UsageError(f"'{live[0]}' is still running with its old command; cancel it first, or use --changed=keep")


def _notes(
    new: int,
    gone: Sequence[str],
    different: Sequence[str],
    state: RunState,
    changed: ChangedPolicy,
    now: float,
) -> list[ev.Event]:
    texts = []
    if state.jobs and new:
        texts.append(f"{new} experiment(s) are new in the description")
    if gone:
        running = sum(isinstance(state.jobs[job].state, ACTIVE) for job in gone)
        live = f"; {running} of them still run to their end" if running else ""
        texts.append(f"{len(gone)} experiment(s) are no longer in the description, e.g. '{gone[0]}'{live}")
    if different:
        what = "their results are kept" if changed == "keep" else "they run again"
        texts.append(f"{len(different)} experiment(s) have another command now; {what}")
    return [ev.Note(t=now, text=text, level="info") for text in texts]
