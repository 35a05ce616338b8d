"""`--dry_run`: what would be started, where and how, without touching anything."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence

from sf_runner.cli.kind import BackendContext
from sf_runner.cli.session import Prepared, plan_changes
from sf_runner.engine.launching import LaunchBuilder
from sf_runner.slots.placement import ANYWHERE, Placement
from sf_runner.slots.table import SlotTable
from sf_runner.slots.types import NoRoom, Occupant
from sf_runner.state.events import Note
from sf_runner.state.fold import RunState
from sf_runner.state.history import load_history
from sf_runner.state.jobs import JobRecord, Waiting
from sf_runner.store.follower import JournalFollower


def dry_run_lines(prepared: Prepared) -> Iterator[str]:
    """One block per job that would be started, in that order; slots are shown for those that could start at once.

    Raises UsageError where the start would be refused.
    """
    plan, slots = prepared.plan, prepared.slots
    state, notes = _state_after_start(prepared)
    waiting = _waiting(state)
    yield f"run {plan.run_name}: {len(plan.jobs)} experiments in {plan.paths.root}, {slots.max_parallel} side by side"
    if len(waiting) < len(plan.jobs):
        yield f"{len(waiting)} of them would be started; the others run, are done, failed or were cancelled"
    if slots.refusal:
        yield f"note: a start on this machine would be refused: {slots.refusal}"
    yield from (f"note: {text}" for text in (*prepared.warnings, *notes, *slots.setup.notes))
    yield from (f"note: {warning.message}" for warning in slots.snapshot.warnings)
    launches, jobs = LaunchBuilder(plan.paths), plan.by_id()
    free = max(0, slots.max_parallel - len(state.active))
    for record, (where, placement) in zip(waiting, _slots(prepared, state, waiting, free), strict=True):
        job = jobs[record.job_id]
        yield ""
        yield f"{job.job_id}"
        yield f"  directory    {job.paths.experiment_dir}"
        yield f"  command      {job.command}"
        yield f"  slot         {where}"
        yield f"  environment  {_assignments(launches.environment(job, record.attempts + 1, placement))}"


def preview_parts(prepared: Prepared) -> Iterator[tuple[str, str]]:
    """What a queueing backend would be given by this start: (what it is, its exact text) each."""
    plan, jobs = prepared.plan, prepared.plan.by_id()
    state, _ = _state_after_start(prepared)
    table = prepared.slots.setup.table(prepared.slots.snapshot)
    requests, builder, launches = prepared.kind.slot_requests(plan), LaunchBuilder(plan.paths), []
    for record in _waiting(state):
        placed = table.place(requests[record.shape])
        if isinstance(placed, NoRoom):
            continue
        record.attempts += 1  # of a state that nobody else sees
        launches.append(builder.launch(jobs[record.job_id], record, placed.placement))
    context = BackendContext(options=prepared.options, plan=plan, state=state)
    yield from prepared.kind.preview(context, launches)


def _waiting(state: RunState) -> list[JobRecord]:
    """Jobs that would be started, in that order."""
    waiting = [record for record in state.jobs.values() if record.planned and isinstance(record.state, Waiting)]
    return sorted(waiting, key=lambda record: (record.rank, record.index))


def _state_after_start(prepared: Prepared) -> tuple[RunState, list[str]]:
    """What the run's journal would say after this start, and what would be remarked about it."""
    plan = prepared.plan
    follower = JournalFollower(plan.paths.journal)
    if plan.paths.journal.exists():
        follower.catch_up()
    state = follower.state
    durations_s = load_history(plan.paths.train_dir).durations_s
    notes = []
    for event in plan_changes(prepared, state, durations_s, time.time()):
        state.apply(event)
        if isinstance(event, Note):
            notes.append(event.text)
    return state, notes


def _slots(
    prepared: Prepared, state: RunState, waiting: Sequence[JobRecord], free: int
) -> Iterator[tuple[str, Placement]]:
    """Where each job would run; `free`: how many could start at once."""
    if prepared.slots.refusal:
        yield from (("known only where it is started", ANYWHERE) for _ in waiting)
        return
    setup, requests = prepared.slots.setup, prepared.kind.slot_requests(prepared.plan)
    occupants = [
        Occupant(job=job, placement=Placement.from_json(getattr(record.state, "placement", {})))
        for job, record in state.active.items()
    ]
    table: SlotTable | None = setup.table(prepared.slots.snapshot, occupants)
    for position, record in enumerate(waiting):
        if table is None or position >= free:
            yield "the next free slot", ANYWHERE
            continue
        placed = table.place(requests[record.shape])
        if isinstance(placed, NoRoom):
            yield f"waits: {placed.reason}", ANYWHERE
            table = None if placed.kind == "full" else table
        else:
            table = placed.table
            yield placed.placement.label or "anywhere", placed.placement


def _assignments(env: Mapping[str, str]) -> str:
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in env.items())
