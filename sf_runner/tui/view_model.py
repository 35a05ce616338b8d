"""What the screen shows, as plain data: a pure function of the run, its jobs' progress, the clock and the cursor.

Only the rows that are visible are made, so a run of 10,000 jobs costs what one of 50 does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sf_runner.engine.snapshot import state_name
from sf_runner.progress import Progress
from sf_runner.slots.placement import Placement
from sf_runner.state.estimate import Estimate, format_duration
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import ACTIVE, Failed, JobRecord, Running, Stopping, Succeeded, Waiting, running_of

Life = Literal["live", "finished", "gone", "unknown"]
"""Whether a runner is at work; has ended in good order; was lost before the end; cannot be told from here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRow:
    """One job in the list. None or empty: nothing to show. `remark` stands in place of progress: why it failed, why it
    waits, why it is being ended."""

    job: str
    name: str
    state: str
    selected: bool = False
    slot: str = ""
    attempt: int = 0
    elapsed_s: float | None = None
    fraction: float | None = None
    phase: str = ""
    left_s: float | None = None
    fps: float | None = None
    value: float | None = None
    course: tuple[float, ...] = ()
    remark: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Alert:
    """The one thing to know now."""

    text: str
    level: Literal["error", "warning", "note", "info"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """The run as a whole. Times in seconds. `done`: experiments done, parts of running ones counted in."""

    run: str
    where: str
    elapsed_s: float
    left: Estimate | None
    total: int
    succeeded: int
    failed: int
    cancelled: int
    running: int
    retrying: int
    waiting: int
    done: float
    fps: float
    max_parallel: int
    paused: bool
    life: Life


def make_header(
    state: RunState, now: float, *, left: Estimate | None, running_done: float, fps: float, retrying: int, life: Life
) -> Header:
    """`running_done`: what running jobs have done, in jobs; `retrying`: waiting jobs that have run before."""
    opened = state.opened
    ended = state.count("Succeeded", "Failed", "Cancelled")
    active = state.count("Submitted", "Running", "Stopping") - state.num_queued
    until = now if life in ("live", "unknown") else state.last_event_at
    return Header(
        run=state.run_name,
        where=f"{opened.backend} on {opened.host}" if opened else "",
        elapsed_s=max(0.0, until - state.first_opened_at) if state.first_opened_at else 0.0,
        left=left,
        total=state.total,
        succeeded=state.count("Succeeded"),
        failed=state.count("Failed"),
        cancelled=state.count("Cancelled"),
        running=active,
        retrying=min(retrying, state.count("Waiting")),
        waiting=state.count("Waiting") - min(retrying, state.count("Waiting")) + state.num_queued,
        done=ended + min(running_done, active),
        fps=fps,
        max_parallel=state.max_parallel,
        paused=state.paused,
        life=life,
    )


def job_row(
    record: JobRecord, now: float, progress: Progress | None, course: tuple[float, ...], metric: str, selected: bool
) -> JobRow:
    """What the list says of one job."""
    state = record.state
    running = running_of(state)
    elapsed_s = None
    if running is not None:
        elapsed_s = running.elapsed_s(now)
    elif isinstance(state, Succeeded | Failed):
        elapsed_s = state.duration_s
    remark = remark_on(record, now)
    if isinstance(state, Waiting):
        progress, course = None, ()
    return JobRow(
        job=record.job_id,
        name=short_name(record.job_id),
        state=state_name(record),
        selected=selected,
        slot=Placement.from_json(state.placement).label if isinstance(state, ACTIVE) else "",
        attempt=record.attempts,
        elapsed_s=elapsed_s,
        fraction=_fraction(record, progress),
        phase=(progress.phase or "") if progress else "",
        left_s=_left_s(progress, now) if progress and isinstance(state, Running) else None,
        fps=progress.fps if progress and running is not None else None,
        value=progress.metrics.get(metric) if progress else None,
        course=course,
        remark=remark,
    )


def _fraction(record: JobRecord, progress: Progress | None) -> float | None:
    if isinstance(record.state, Succeeded):
        return 1.0
    return progress.fraction if progress is not None else None


def _left_s(progress: Progress, now: float) -> float | None:
    """What the job itself says is left, less the time since it said so."""
    if progress.eta_s is None or progress.fraction == 1.0:
        return None
    return max(0.0, progress.eta_s - max(0.0, now - progress.time_unix_s))


def short_name(job: str) -> str:
    """The experiment's name without the folder it lies in."""
    return job.rpartition("/")[2]


def remark_on(record: JobRecord, now: float) -> str:
    """Why it failed, why it waits, why it is being ended; empty when all is well."""
    state = record.state
    if isinstance(state, Failed):
        return state.cause.summary
    if isinstance(state, Stopping):
        return f"{_STOPPING[state.reason]}, {format_duration(now - state.since)} ago"
    if isinstance(state, Waiting):
        cause = state.last_cause.summary if state.last_cause is not None else ""
        if state.not_before > now:
            again = f"again in {format_duration(state.not_before - now)}"
            return f"{again}: {cause}" if cause else again
        return cause
    return ""


_STOPPING: Mapping[str, str] = {
    "cancelled": "told to end: cancelled",
    "timeout": "told to end: over its time limit",
    "stalled": "told to end: it has stalled",
    "shutdown": "told to end with the run",
    "slot_lost": "told to end: its GPU was lost",
    "preempted": "told to end: preempted",
}


def window(rows: int, total: int, top: int, selected: int) -> int:
    """The first row to show of `total`, so that the selected one is in sight and no room is wasted."""
    top = max(0, min(top, total - rows))
    if selected < top:
        return selected
    return selected - rows + 1 if selected >= top + rows else top


def make_rows(
    listed: Sequence[JobRecord],
    top: int,
    number: int,
    selected: int,
    now: float,
    metric: str,
    progress: Callable[[str], Progress | None],
    course: Callable[[str, str], tuple[float, ...]],
) -> tuple[JobRow, ...]:
    """The rows in sight."""
    return tuple(
        job_row(
            record,
            now,
            progress(record.job_id),
            course(record.job_id, metric),
            metric,
            selected=top + offset == selected,
        )
        for offset, record in enumerate(listed[top : top + number])
    )
