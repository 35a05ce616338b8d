"""What to do next: a function of state, slots, policy and time. Pure; tested without processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sf_runner.events import AttemptEnded
from sf_runner.job_state import FailureCause, JobRecord, Running, Stopping, StopReason, Verdict
from sf_runner.placement import Placement
from sf_runner.run_state import RunState
from sf_runner.slots import NoRoom, SlotRequest, SlotTable

_MAX_OOM_RETRIES = 2
_MAX_RETRY_DELAY_S = 600.0
_MIN_SPAWN_DELAY_S = 1.0
_MAX_SKIPS = 16
_AUTO_BREAKER = 10


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How a run is run; one field per command line flag."""

    pause_between_s: float = 0.0
    max_retries: int = 0
    retry_delay_s: float = 5.0
    """Before the first retry; doubled for each further one, at most ten minutes."""
    max_failures: int | None = None
    """Stop launching after this many failed jobs; 0: never; None: when the first ten attempts all fail."""
    timeout_s: float | None = None
    stall_timeout_s: float | None = None
    grace_s: float = 30.0


@dataclass(frozen=True, kw_only=True)
class Start:
    job: JobRecord
    placement: Placement
    table: SlotTable


@dataclass(frozen=True, kw_only=True)
class Hold:
    """Nothing can be started now. `until`: when time alone will change that; None: something has to happen."""

    why: Literal["nothing_ready", "max_parallel", "pause", "paused", "draining", "no_room"]
    until: float | None = None
    reasons: tuple[NoRoom, ...] = ()


@dataclass(kw_only=True)
class LaunchMemory:
    """What the launching side remembers between decisions; lost with the runner without harm."""

    last_start: float = float("-inf")
    skips: dict[str, int] = field(default_factory=dict)
    """Per shape: starts of lower-ranked jobs since its best job could first not be placed."""


def decide(
    state: RunState,
    table: SlotTable,
    requests: Mapping[str, SlotRequest],
    policy: Policy,
    memory: LaunchMemory,
    now: float,
) -> Start | Hold:
    """The next job to start, and where. `requests` maps each resource shape to what it asks for.

    Jobs start in order of rank. A job that does not fit lets later ones of another shape pass, but at most
    16 of them: then it is kept room for, so that a job that needs four GPUs is not starved by those that need one.
    """
    if state.draining is not None:
        return Hold(why="draining")
    if state.paused:
        return Hold(why="paused")
    if len(state.active) >= state.max_parallel:
        return Hold(why="max_parallel")
    if now < memory.last_start + policy.pause_between_s:
        return Hold(why="pause", until=memory.last_start + policy.pause_between_s)
    refused: list[NoRoom] = []
    for shape in state.shapes():
        job = state.next_ready(shape)
        assert job is not None
        placed = table.place(_request(requests[shape], job))
        if not isinstance(placed, NoRoom):
            _remember(memory, shape, passed=[s for s in memory.skips if s != shape], now=now)
            return Start(job=job, placement=placed.placement, table=placed.table)
        refused.append(placed)
        if memory.skips.setdefault(shape, 0) >= _MAX_SKIPS and placed.kind != "never":
            break
    if refused:
        return Hold(why="no_room", reasons=tuple(refused))
    return Hold(why="nothing_ready", until=state.next_delayed_at())


def _request(request: SlotRequest, job: JobRecord) -> SlotRequest:
    """What this job asks for: its shape's request, its learned peak, and more room after an out-of-memory."""
    config = job.info.get("config")
    if config is None and not job.oom_failures:
        return request
    roomier = job.oom_room_mb if job.oom_failures else None
    return replace(request, config=config, roomier_than_mb=roomier)


def _remember(memory: LaunchMemory, shape: str, passed: list[str], now: float) -> None:
    memory.last_start = now
    memory.skips.pop(shape, None)
    for other in passed:
        memory.skips[other] += 1


def judge(
    record: JobRecord,
    *,
    t: float,
    duration_s: float,
    exit_record: Mapping[str, Any] | None,
    cause: FailureCause | None,
    completed: bool,
    policy: Policy,
    permanent: bool = False,
) -> AttemptEnded:
    """What an ended attempt means for its job.

    An attempt that was told to end counts as a success only if it exited with 0 and its progress file says that it
    was done (`completed`): a program that saves and exits with 0 on TERM has not finished. That file also decides
    where nobody saw the end (`exit_record` None): what is done is not repeated.

    `cause` explains a failure; `permanent`: a retry cannot help.
    """
    code = exit_record.get("exit_code") if exit_record else None
    stop = record.state.reason if isinstance(record.state, Stopping) else None
    verdict: Verdict
    not_before = 0.0
    if (completed and (exit_record is None or code == 0)) or (code == 0 and stop is None):
        verdict, cause = "succeeded", None
    elif stop == "cancelled":
        verdict = "cancelled"
    elif stop in ("shutdown", "slot_lost", "preempted") or (exit_record is None and not permanent and stop is None):
        verdict = "requeue"
        if cause is not None and cause.kind == "spawn":  # a full disk or process table does not pass in an instant
            not_before = t + max(policy.retry_delay_s, _MIN_SPAWN_DELAY_S)
    else:
        assert cause is not None
        verdict = _retry_or_fail(record, cause, policy, permanent)
        if verdict == "retry":
            delay = min(policy.retry_delay_s * 2.0**record.failures, _MAX_RETRY_DELAY_S)
            not_before = t + delay if delay > 0 else 0.0
    usage = exit_record or {}
    return AttemptEnded(
        t=t,
        job=record.job_id,
        attempt=record.attempts,
        verdict=verdict,
        code=code,
        signal=usage.get("signal"),
        duration_s=round(duration_s, 3),
        not_before=not_before,
        cause=cause,
        leftovers=usage.get("leftovers", 0),
        max_rss_mb=usage.get("max_rss_mb"),
        cpu_s=usage.get("cpu_s"),
    )


def _retry_or_fail(record: JobRecord, cause: FailureCause, policy: Policy, permanent: bool) -> Verdict:
    if permanent:
        return "failed"
    if cause.kind == "gpu_oom" and record.oom_failures < _MAX_OOM_RETRIES:
        return "retry"  # on a roomier slot, whatever --max_retries says
    return "retry" if record.failures < policy.max_retries else "failed"


def breaker_tripped(state: RunState, policy: Policy) -> str | None:
    """Why no further job should be started; None while all is well."""
    if policy.max_failures:
        if state.failed_this_session >= policy.max_failures:
            return f"{state.failed_this_session} experiments failed (--max_failures={policy.max_failures})"
        return None
    limit = max(_AUTO_BREAKER, 2 * state.max_parallel)
    if policy.max_failures is None and not state.succeeded_this_session and state.failures_in_a_row >= limit:
        return (
            f"the first {state.failures_in_a_row} attempts all failed, so the others would too "
            "(--max_failures=0 goes on regardless)"
        )
    return None


def overdue(record: JobRecord, policy: Policy, now: float, last_sign_of_life: float | None) -> StopReason | None:
    """Whether a running attempt has to be ended.

    `last_sign_of_life`: unix time of the last write to its log or progress file; None while it has written nothing
    (starting up), which is no stall.
    """
    state = record.state
    if not isinstance(state, Running):
        return None
    timeout_s = record.info.get("timeout_s") or policy.timeout_s
    if timeout_s and now - state.started_at > timeout_s:
        return "timeout"
    alive = last_sign_of_life is not None and last_sign_of_life >= state.started_at  # else still starting up
    if policy.stall_timeout_s and alive and now - (last_sign_of_life or 0) > policy.stall_timeout_s:
        return "stalled"
    return None
