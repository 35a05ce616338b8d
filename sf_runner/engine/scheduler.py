"""What to start next, and what to end: a function of state, slots, policy and time. Pure; tested without processes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from sf_runner.basics.backoff import doubled
from sf_runner.slots.placement import Placement
from sf_runner.slots.table import Placed, SlotTable
from sf_runner.slots.types import NoRoom, SlotRequest
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import JobRecord, Running, StopReason

MAX_SKIPS: Final = 16
"""Starts that may pass a job that waits for room."""
_MAX_START_PAUSE_S = 60.0
_AUTO_BREAKER = 10


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How a run is run; one field per command line flag."""

    queueing: bool = False
    """The backend queues by itself and keeps to the number side by side: everything ready is handed to it at once."""
    pause_between_s: float = 0.0
    max_retries: int = 0
    retry_delay_s: float = 5.0
    """Before the first retry; doubled for each further one, at most ten minutes."""
    max_failures: int | None = None
    """Stop launching after this many failed jobs; 0: never; None: when all of the first ten, or of
    twice as many as run side by side, fail."""
    timeout_s: float | None = None
    stall_timeout_s: float | None = None
    grace_s: float = 30.0


@dataclass(frozen=True, kw_only=True)
class Start:
    """This experiment starts now. `table`: the slots once it is placed."""

    job: JobRecord
    placement: Placement
    table: SlotTable


@dataclass(frozen=True, kw_only=True)
class Hold:
    """Nothing can be started now. `until`: when time alone will change that; None: something has to happen."""

    why: Literal["nothing_ready", "max_parallel", "pause", "paused", "draining", "no_room", "cannot_start", "full"]
    until: float | None = None
    reasons: tuple[NoRoom, ...] = ()
    words: str = ""
    """Of a backend that takes nothing more now (`full`)."""

    @property
    def text(self) -> str:
        """For people; empty where there is nothing to tell."""
        return self.reasons[0].reason if self.why == "no_room" else self.words or _HOLD_TEXTS.get(self.why, "")


_HOLD_TEXTS = {
    "pause": "pausing between starts",
    "paused": "launching is paused",
    "draining": "nothing is started any more",
    "cannot_start": "this machine could not start the last experiment; trying again soon",
}


_DRAINING, _PAUSED, _MAX_PARALLEL = Hold(why="draining"), Hold(why="paused"), Hold(why="max_parallel")


@dataclass(kw_only=True)
class StartMemory:
    """What the scheduler remembers between decisions; lost with the runner without harm."""

    last_start: float = float("-inf")
    skips: dict[str, int] = field(default_factory=dict)
    """Per queue: starts of lower-ranked jobs since its best job could first not be placed."""


def decide(
    state: RunState,
    table: SlotTable,
    requests: Mapping[str, SlotRequest],
    policy: Policy,
    memory: StartMemory,
    now: float,
) -> Start | Hold:
    """The next job to start, and where. `requests` maps each resource shape to what it asks for.

    Jobs start in order of rank. A job that does not fit lets later ones of other queues pass, but at most 16 of
    them: then it is kept room for, so that a job that needs four GPUs is not starved by those that need one. GPUs are
    kept where the fewest jobs have to end; for cores everything waits. No room is kept for a job that would not fit
    either if all jobs of this run ended: what it waits for belongs to others, and may for days.
    """
    held = _held(state, policy, memory, now)
    if held is not None:
        return held
    refused: dict[str, NoRoom] = {}
    kept: set[str] = set()
    for job in state.ready():
        placed = _place(table, requests[job.shape], job, avoid=kept)
        if not isinstance(placed, NoRoom):
            memory.last_start = now
            memory.skips = {queue: memory.skips.get(queue, 0) + 1 for queue in refused}
            return Start(job=job, placement=placed.placement, table=placed.table)
        refused[job.queue] = placed
        # If all jobs of this run have ended and it is not enough, others pass.
        if not state.active:
            memory.skips.pop(job.queue, None)
        elif memory.skips.get(job.queue, 0) >= MAX_SKIPS:
            room = _place(table.vacated(), requests[job.shape], job, avoid=kept)
            if isinstance(room, Placed) and (room.placement.cores or not room.placement.gpu_uuids):
                break
            kept.update(room.placement.gpu_uuids if isinstance(room, Placed) else ())
    if refused:
        return Hold(why="no_room", until=state.next_delayed_at(), reasons=tuple(refused.values()))
    return Hold(why="nothing_ready", until=state.next_delayed_at())


def _held(state: RunState, policy: Policy, memory: StartMemory, now: float) -> Hold | None:
    """Why nothing may be started now, whatever there is to start."""
    if state.draining is not None:
        return _DRAINING
    if state.paused:
        return _PAUSED
    if not policy.queueing and len(state.active) >= state.max_parallel:
        return _MAX_PARALLEL
    memory.last_start = min(memory.last_start, now)  # a start is never in the future, whatever the clocks say
    if now < memory.last_start + policy.pause_between_s:
        return Hold(why="pause", until=memory.last_start + policy.pause_between_s)
    if state.start_failures:
        until = min(state.start_failed_at, now) + doubled(1.0, state.start_failures - 1, _MAX_START_PAUSE_S)
        if now < until:
            return Hold(why="cannot_start", until=until)
    return None


def _place(table: SlotTable, request: SlotRequest, job: JobRecord, *, avoid: Collection[str]) -> Placed | NoRoom:
    """Ask for its shape's request, its learned peak, and more room after an out-of-memory."""
    if not table.gpus:
        return table.place(request)
    roomier = job.oom_room_mb if job.oom_failures else None
    placed = table.place(replace(request, config=job.config or None, roomier_than_mb=roomier), avoid=avoid)
    if isinstance(placed, NoRoom) and placed.kind == "never":
        # What was learned on a larger machine must not keep it from ever running on this one.
        return table.place(replace(request, roomier_than_mb=roomier), avoid=avoid)
    return placed


def breaker_tripped(state: RunState, policy: Policy) -> str | None:
    """Why no further job should be started; None while all is well."""
    if policy.max_failures:
        if state.failed_this_session >= policy.max_failures:
            return f"{state.failed_this_session} experiments failed (--max_failures={policy.max_failures})"
        return None
    failing = len(state.failing_this_session)
    enough = failing >= max(_AUTO_BREAKER, 2 * state.max_parallel)
    if policy.max_failures is None and not state.succeeded_this_session and enough:
        return f"the first {failing} experiments all failed, so the others would too (--max_failures=0 goes on anyway)"
    return None


def overdue(record: JobRecord, policy: Policy, now: float, silent_s: float | None) -> StopReason | None:
    """Whether a running attempt has to be ended.

    `silent_s`: for how long it has not written to its log or progress file; None while it has written nothing (starting
    up), which is no stall.
    """
    state = record.state
    if not isinstance(state, Running):
        return None
    timeout_s = record.timeout_s or policy.timeout_s
    if timeout_s and state.elapsed_s(now) > timeout_s:
        return "timeout"
    if not policy.stall_timeout_s or silent_s is None:
        return None
    return "stalled" if silent_s > policy.stall_timeout_s else None
