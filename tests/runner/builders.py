"""Plans, events and states for the tests of the runner's pure core."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sf_runner.describe.description import Experiment, Resources, RunDescription
from sf_runner.describe.plan import Plan, make_plan
from sf_runner.engine.reconcile import ranks, reconcile
from sf_runner.state import events as ev
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import ACTIVE, FailureCause, JobRecord

CAUSE = FailureCause(kind="exit", summary="exit code 1: boom", fingerprint="0badc0de")
OOM = FailureCause(kind="gpu_oom", summary="out of GPU memory", fingerprint="00000000")
NOT_STARTED = FailureCause(kind="spawn", summary="cannot start 'x': try again", fingerprint="11111111")


def make_run(
    *experiments: Experiment, name: str = "study", train_dir: str | Path = "train", seed_param: str = "seed"
) -> Plan:
    description = RunDescription(name, experiments=experiments, seed_param=seed_param)
    return make_plan(description, train_dir)


def simple_plan(count: int, train_dir: str | Path = "train", *, cmd: str = "true", **settings: Any) -> Plan:
    """`count` jobs named job_/00_job_see_0, ... that differ by their seed."""
    experiment = Experiment("job", cmd, [{"seed": seed} for seed in range(count)], **settings)
    return make_run(experiment, train_dir=train_dir)


def opened(t: float = 0.0, **changes: Any) -> ev.RunOpened:
    settings: dict[str, Any] = {"pid": 10, "host": "box", "backend": "processes", "boot_id": "b", "max_parallel": 2}
    return ev.RunOpened(t=t, **{**settings, **changes})


def opening(plan: Plan, state: RunState, t: float = 0.0, **changes: Any) -> list[ev.Event]:
    """The events of a start of the runner on this state; not yet applied."""
    settings: dict[str, Any] = {"changed": "refuse", "retry": (), "ranks_by_job": ranks(plan, "submission", {})}
    settings |= {name: changes.pop(name) for name in tuple(changes) if name in settings}
    return [opened(t, **changes), *reconcile(plan, state, now=t, **settings)]


def fresh(plan: Plan, **changes: Any) -> RunState:
    """The state at the first start of a plan."""
    state = RunState()
    state.apply(ev.JournalCreated(t=0.0, version=1, run_id="cafe", run_name=plan.run_name))
    state.apply_all(opening(plan, state, **changes))
    return state


def started_fresh(count: int, **changes: Any) -> tuple[RunState, list[str]]:
    """A fresh run of `count` equal jobs, and their ids."""
    state = fresh(simple_plan(count), **changes)
    return state, list(state.jobs)


def submit(state: RunState, job: str, t: float = 1.0, placement: Mapping[str, Any] | None = None) -> None:
    attempt = state.jobs[job].attempts + 1
    state.apply(ev.AttemptSubmitted(t=t, job=job, attempt=attempt, placement=placement or {}))


def start(state: RunState, job: str, t: float = 1.0, placement: Mapping[str, Any] | None = None) -> None:
    submit(state, job, t, placement)
    handle = {"pid": 100, "up": 5.0, "boot": "b"}
    state.apply(ev.AttemptStarted(t=t, job=job, attempt=state.jobs[job].attempts, handle=handle))


def end(state: RunState, job: str, verdict: str = "succeeded", t: float = 2.0, **more: Any) -> None:
    if verdict in ("failed", "retry"):
        more.setdefault("cause", CAUSE)
    more.setdefault("duration_s", 1.0)
    state.apply(ev.AttemptEnded(t=t, job=job, attempt=state.jobs[job].attempts, verdict=verdict, **more))  # type: ignore[arg-type]


def run_once(state: RunState, job: str, verdict: str = "succeeded", t: float = 1.0, **more: Any) -> None:
    start(state, job, t)
    end(state, job, verdict, t + 1.0, **more)


def eventful() -> list[ev.Event]:
    """A run with jobs in every state, some with histories."""
    plan = simple_plan(12)
    state = RunState()
    found: list[ev.Event] = [ev.JournalCreated(t=1.0, version=1, run_id="cafe", run_name="study")]
    found += opening(plan, state, t=2.0, guardians=[{"pid": 4, "up": 1.0, "boot": "b"}])
    jobs = [job.job_id for job in plan.jobs]

    def run(job: str, to: str = "running") -> None:
        found.append(ev.AttemptSubmitted(t=3.0, job=job, attempt=1, placement={"cores": [1], "room_mb": 9}))
        if to != "submitted":
            found.append(ev.AttemptStarted(t=4.0, job=job, attempt=1, handle={"pid": 7, "up": 2.5}))
        if to not in ("submitted", "running"):
            more: dict[str, Any] = {"cause": CAUSE if to in ("failed", "retry") else None, "duration_s": 1.5}
            if to == "retry":
                more["not_before"] = 99.0
            found.append(ev.AttemptEnded(t=5.0, job=job, attempt=1, verdict=to, **more))  # type: ignore[arg-type]

    ways = ("succeeded", "failed", "retry", "requeue", "cancelled", "submitted", "running")
    for job, to in zip(jobs, ways, strict=False):
        run(job, to)
    run(jobs[7])
    run(jobs[8], "submitted")
    found.append(ev.StopRequested(t=6.0, job=jobs[7], attempt=1, reason="timeout"))
    found.append(ev.StopRequested(t=6.0, job=jobs[8], attempt=1, reason="cancelled"))
    found.append(ev.JobCancelled(t=6.0, job=jobs[9]))
    found.append(ev.JobsChanged(t=6.5, jobs=[{"id": jobs[10], "planned": False}, {"id": jobs[11], "rank": -3.5}]))
    found.append(ev.PaceChanged(t=7.0, paused=True, max_parallel=5))
    found.append(ev.RunDraining(t=8.0, reason="interrupted"))
    found.append(ev.Note(t=9.0, text="look", job=jobs[0]))
    return found


def recount(state: RunState) -> Counter[str]:
    return Counter(type(record.state).__name__ for record in state.jobs.values() if record.planned)


def essence(state: RunState) -> dict[str, Any]:
    """What must be equal for two states to mean the same."""
    return {
        "jobs": {job: _record_essence(record) for job, record in state.jobs.items()},
        "active": sorted(state.active),
        "counts": {name: count for name, count in state.counts.items() if count},
        "session": (state.failed_this_session, state.succeeded_this_session, sorted(state.failing_this_session)),
        "durations": (state.durations.count, round(state.durations.mean_s, 6)),
        "launching": (state.paused, state.max_parallel, state.draining),
    }


def _record_essence(record: JobRecord) -> dict[str, Any]:
    body = {name: getattr(record, name) for name in JobRecord.__slots__ if name != "details"}
    told = {"argv": list(record.argv), "params": dict(record.params), "seed": (record.seed, record.seed_param)}
    return {**body, **told, "elapsed_s": round(record.elapsed_s, 3)}


def check_consistency(state: RunState) -> None:
    """Counts and indexes agree with the jobs themselves."""
    assert +Counter(state.counts) == +recount(state)
    assert set(state.active) == {job for job, record in state.jobs.items() if isinstance(record.state, ACTIVE)}
    assert state.total == sum(record.planned for record in state.jobs.values())
    for record in state.ready():
        assert record.planned
        assert type(record.state).__name__ == "Waiting"


def resources(**settings: Any) -> Resources:
    return Resources(**settings)


def names(records: Sequence[JobRecord]) -> list[str]:
    return [record.job_id for record in records]
