"""A plan meets the state of an earlier start: what is new, what is gone, what changed. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sf_runner import events as ev
from sf_runner.description import Resources
from sf_runner.errors import UsageError
from sf_runner.job_state import ACTIVE, Cancelled, Failed, Succeeded
from sf_runner.plan import Job, Plan
from sf_runner.run_state import RunState
from sf_runner.slots import SlotRequest

ChangedPolicy = Literal["refuse", "keep", "rerun"]
"""What to do with jobs that have already run and whose command is another one now."""

Order = Literal["submission", "seed_major", "longest_first", "shortest_first"]


def ranks(plan: Plan, order: Order, expected_s: Mapping[str, float]) -> dict[str, float]:
    """Rank of each job, lowest first. `expected_s`: measured duration per `Job.config_key`; unknown ones count as
    the mean of the known ones, so that a single surprise does not reorder everything."""
    jobs = list(plan.jobs)
    if order == "seed_major":
        jobs.sort(key=lambda job: job.seed_major_key)
    elif order in ("longest_first", "shortest_first"):
        mean = sum(expected_s.values()) / len(expected_s) if expected_s else 0.0
        sign = -1.0 if order == "longest_first" else 1.0
        jobs.sort(key=lambda job: (sign * expected_s.get(job.config_key, mean), job.index))
    return {job.job_id: float(rank) for rank, job in enumerate(jobs)}


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
    own = ";".join(f"{k}={v}" for k, v in sorted(_placement_env(job)))
    return shape_of(job.resources) + (f";{own}" if own else "")


def _placement_env(job: Job) -> list[tuple[str, str]]:
    """Variables of the description that bear on its placement."""
    return [(k, v) for k, v in job.env.items() if k.startswith("CUDA_") or k.endswith("_NUM_THREADS")]


def entry(job: Job, rank: float) -> dict[str, Any]:
    """A job as the journal describes it."""
    body: dict[str, Any] = {
        "id": job.job_id,
        "index": job.index,
        "rank": rank,
        "fp": job.fingerprint,
        "config": job.config_key,
        "cmd": job.command,
    }
    if shape := job_shape(job):
        body["shape"] = shape
    if job.resources.timeout_s is not None:
        body["timeout_s"] = job.resources.timeout_s
    if job.params:
        body["params"] = {name: _plain(value) for name, value in job.params.items()}
    if job.seed is not None:
        body["seed"] = job.seed
    return body


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


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

    Raises UsageError when jobs that have run would mean something else now and `changed` is "refuse".
    """
    new: list[dict[str, Any]] = []
    edits: list[dict[str, Any]] = []
    different: list[str] = []
    requeue: list[str] = []
    for job in plan.jobs:
        record = state.jobs.get(job.job_id)
        rank = ranks_by_job[job.job_id]
        if record is None:
            new.append(entry(job, rank))
            continue
        has_run = record.attempts > 0
        if record.fingerprint != job.fingerprint and has_run:
            different.append(job.job_id)
            if changed == "rerun" and isinstance(record.state, Succeeded | Failed | Cancelled):
                requeue.append(job.job_id)
        body = entry(job, rank)
        if not record.planned or any(record.info.get(key) != value for key, value in body.items()):
            edits.append({**body, "planned": True})
        wanted = (Failed if "failed" in retry else (), Cancelled if "cancelled" in retry else ())
        if any(kind and isinstance(record.state, kind) for kind in wanted) and job.job_id not in requeue:
            requeue.append(job.job_id)
    _refuse_changes(different, changed, state)
    planned = {job.job_id for job in plan.jobs}
    gone = [r.job_id for r in state.jobs.values() if r.planned and r.job_id not in planned]
    edits.extend({"id": job, "planned": False} for job in gone)
    events: list[ev.Event] = []
    if new:
        events.append(ev.JobsPlanned(t=now, jobs=new))
    if edits:
        events.append(ev.JobsChanged(t=now, jobs=edits))
    events.extend(ev.JobRequeued(t=now, job=job) for job in requeue)
    events.extend(_notes(new, gone, different, state, changed, now))
    return events


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
    new: Sequence[Mapping[str, Any]],
    gone: Sequence[str],
    different: Sequence[str],
    state: RunState,
    changed: ChangedPolicy,
    now: float,
) -> list[ev.Event]:
    texts = []
    if state.jobs and new:
        texts.append(f"{len(new)} experiment(s) are new in the description")
    if gone:
        running = sum(isinstance(state.jobs[job].state, ACTIVE) for job in gone)
        live = f"; {running} of them still run to their end" if running else ""
        texts.append(f"{len(gone)} experiment(s) are no longer in the description, e.g. '{gone[0]}'{live}")
    if different:
        what = "their results are kept" if changed == "keep" else "they run again"
        texts.append(f"{len(different)} experiment(s) have another command now; {what}")
    return [ev.Note(t=now, text=text, level="info") for text in texts]
