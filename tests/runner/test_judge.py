"""What an ended attempt means, when a run gives up, and what takes too long."""

from __future__ import annotations

from typing import Any

import pytest

from sf_runner.engine.retries import MAX_LOSSES, MAX_OOM_RETRIES, judge
from sf_runner.engine.scheduler import Policy, breaker_tripped, overdue
from sf_runner.state import events as ev
from sf_runner.state.failures import make_cause
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import Stopping
from tests.runner.builders import CAUSE, OOM, fresh, run_once, simple_plan, start


def verdict_of(state: RunState, job: str, **changes: Any) -> ev.AttemptEnded:
    settings: dict[str, Any] = {
        "t": 10.0,
        "duration_s": 1.5,
        "exit_record": {"exit_code": 1},
        "cause": CAUSE,
        "completed": False,
        "policy": Policy(),
    }
    return judge(state.jobs[job], **{**settings, **changes})


def running(stop: str | None = None) -> tuple[RunState, str]:
    state = fresh(simple_plan(1))
    (job,) = state.jobs
    start(state, job)
    if stop is not None:
        state.apply(ev.StopRequested(t=2.0, job=job, attempt=1, reason=stop))  # type: ignore[arg-type]
    return state, job


OK = {"exit_code": 0, "signal": None, "leftovers": 2, "max_rss_mb": 5.0, "cpu_s": 0.5}


@pytest.mark.parametrize(
    ("stop", "record", "completed", "verdict"),
    [
        (None, OK, False, "succeeded"),
        (None, {"exit_code": 1}, True, "failed"),  # it said so, and crashed: not trusted
        (None, {"exit_code": None, "signal": 9}, False, "failed"),
        (None, None, False, "requeue"),
        (None, None, True, "succeeded"),  # nobody saw the end, but it had finished
        ("shutdown", OK, False, "requeue"),  # saved and left: not finished
        ("shutdown", OK, True, "succeeded"),
        ("shutdown", {"exit_code": None, "signal": 15}, False, "requeue"),
        ("shutdown", None, False, "requeue"),
        ("slot_lost", {"exit_code": 1}, False, "requeue"),
        ("preempted", {"exit_code": 1}, False, "requeue"),
        ("cancelled", OK, False, "cancelled"),
        ("cancelled", OK, True, "succeeded"),
        ("cancelled", {"exit_code": 1}, False, "cancelled"),
        ("cancelled", None, False, "cancelled"),
        ("timeout", OK, False, "failed"),
        ("timeout", OK, True, "succeeded"),
        ("timeout", {"exit_code": None, "signal": 15}, False, "failed"),
        ("timeout", None, False, "failed"),
        ("stalled", {"exit_code": None, "signal": 9}, False, "failed"),
    ],
)
def test_verdicts(stop: str | None, record: dict[str, Any] | None, completed: bool, verdict: str) -> None:
    state, job = running(stop)
    event = verdict_of(state, job, exit_record=record, completed=completed)
    assert event.verdict == verdict
    # A cause is told for what went wrong by itself only.
    assert (event.cause is not None) == (verdict == "failed" or (verdict == "requeue" and stop is None))
    state.apply(event)


def test_what_the_kernel_measured_is_kept() -> None:
    state, job = running()
    event = verdict_of(state, job, exit_record=OK, duration_s=1.23456)
    assert (event.code, event.signal, event.leftovers, event.max_rss_mb, event.cpu_s) == (0, None, 2, 5.0, 0.5)
    assert (event.duration_s, event.attempt, event.not_before) == (1.235, 1, 0.0)


def test_retries_are_counted_and_wait_longer_each_time() -> None:
    state = fresh(simple_plan(1))
    (job,) = state.jobs
    policy = Policy(max_retries=4, retry_delay_s=100.0)
    waits = []
    for _ in range(4):
        start(state, job)
        event = verdict_of(state, job, policy=policy)
        assert event.verdict == "retry"
        waits.append(event.not_before - event.t)
        state.apply(event)
    assert waits == [100.0, 200.0, 400.0, 600.0]
    start(state, job)
    assert verdict_of(state, job, policy=policy).verdict == "failed"


def test_thousands_of_retries_do_not_overflow() -> None:
    state, job = running()
    state.jobs[job].failures = 5000
    event = verdict_of(state, job, policy=Policy(max_retries=10_000))
    assert event.not_before == event.t + 600.0


def test_without_delay_a_retry_is_ready_at_once() -> None:
    state, job = running()
    event = verdict_of(state, job, policy=Policy(max_retries=1, retry_delay_s=0.0))
    assert (event.verdict, event.not_before) == ("retry", 0.0)


def test_a_retry_that_cannot_help_is_not_made() -> None:
    state, job = running()
    event = verdict_of(state, job, exit_record=None, permanent=True, policy=Policy(max_retries=5))
    assert event.verdict == "failed"


def test_out_of_gpu_memory_is_tried_again_without_being_asked() -> None:
    state = fresh(simple_plan(1))
    (job,) = state.jobs
    for _ in range(MAX_OOM_RETRIES):
        start(state, job)
        event = verdict_of(state, job, cause=OOM)
        assert event.verdict == "retry"
        state.apply(event)
    start(state, job)
    assert verdict_of(state, job, cause=OOM).verdict == "failed"
    assert verdict_of(state, job, cause=OOM, policy=Policy(max_retries=3)).verdict == "retry"


# ---- giving up ---------------------------------------------------------------------------------------------------


def failing(count: int, **policy: Any) -> str | None:
    state = fresh(simple_plan(200), max_parallel=2)
    for job in list(state.jobs)[:count]:
        run_once(state, job, "failed")
    return breaker_tripped(state, Policy(**policy))


def test_when_everything_fails_the_run_stops() -> None:
    assert failing(9) is None
    assert "the first 10 experiments all failed" in (failing(10) or "")
    assert failing(150, max_failures=0) is None


def test_with_max_failures_exactly_so_many_count() -> None:
    assert failing(2, max_failures=3) is None
    assert failing(3, max_failures=3) == "3 experiments failed (--max_failures=3)"


def test_one_success_shows_that_not_everything_fails() -> None:
    state = fresh(simple_plan(200))
    jobs = list(state.jobs)
    run_once(state, jobs[0])
    for job in jobs[1:100]:
        run_once(state, job, "failed")
    assert breaker_tripped(state, Policy()) is None
    assert breaker_tripped(state, Policy(max_failures=99)) is not None


def test_one_job_that_is_tried_again_and_again_is_not_everything() -> None:
    state = fresh(simple_plan(5))
    job = next(iter(state.jobs))
    for _ in range(50):
        run_once(state, job, "retry")
    assert breaker_tripped(state, Policy(max_retries=50)) is None


def test_first_attempts_that_all_fail_stop_the_run_although_retries_are_due() -> None:
    state = fresh(simple_plan(200))
    for job in list(state.jobs)[:10]:
        run_once(state, job, "retry")
    assert "the first 10 experiments all failed" in (breaker_tripped(state, Policy(max_retries=3)) or "")


def test_a_wide_run_waits_for_two_rounds_of_failures() -> None:
    state = fresh(simple_plan(200), max_parallel=40)
    for job in list(state.jobs)[:79]:
        run_once(state, job, "failed")
    assert breaker_tripped(state, Policy()) is None
    run_once(state, list(state.jobs)[79], "failed")
    assert breaker_tripped(state, Policy()) is not None


# ---- time limits -------------------------------------------------------------------------------------------------


def test_a_time_limit_counts_from_the_start_of_the_attempt() -> None:
    state, job = running()
    record = state.jobs[job]
    assert overdue(record, Policy(), 1e9, None) is None
    assert overdue(record, Policy(timeout_s=60.0), 61.0, None) is None
    assert overdue(record, Policy(timeout_s=60.0), 61.1, None) == "timeout"
    record.timeout_s = 5.0  # the description's own wins
    assert overdue(record, Policy(timeout_s=60.0), 7.0, None) == "timeout"
    record.timeout_s = 500.0
    assert overdue(record, Policy(timeout_s=60.0), 100.0, None) is None


def test_a_stall_is_silence_after_the_first_sign_of_life() -> None:
    state, job = running()
    record, policy = state.jobs[job], Policy(stall_timeout_s=10.0)
    assert overdue(record, policy, 1e6, None) is None  # starting up
    assert overdue(record, policy, 15.0, 10.0) is None
    assert overdue(record, policy, 15.0, 10.1) == "stalled"


def test_what_is_being_ended_is_not_ended_again() -> None:
    state, job = running("timeout")
    assert isinstance(state.jobs[job].state, Stopping)
    assert overdue(state.jobs[job], Policy(timeout_s=1.0), 1e9, None) is None


def test_what_a_cluster_loses_again_and_again_counts_as_a_failure_in_the_end() -> None:
    state, job = running()
    lost = make_cause("lost", "Slurm no longer knows it", "lost")
    waits = []
    for _ in range(MAX_LOSSES):
        event = verdict_of(state, job, exit_record=None, cause=lost, fate="requeue")
        assert event.verdict == "requeue"
        waits.append(event.not_before and event.not_before - event.t)
        state.apply(event)
        start(state, job)
    assert waits == [0.0, 5.0, 10.0], "not at once over and over"
    for retries, verdict in ((0, "failed"), (1, "retry")):
        policy = Policy(max_retries=retries)
        assert verdict_of(state, job, exit_record=None, cause=lost, fate="requeue", policy=policy).verdict == verdict
    preempted = make_cause("preempted", "preempted", "preempted")
    assert verdict_of(state, job, cause=preempted, fate="requeue").verdict == "requeue", "that may happen for ever"
    assert verdict_of(state, job, exit_record=None, cause=lost, fate="requeued").verdict == "requeue", "it is queued"
    state.apply(verdict_of(state, job, cause=preempted, fate="requeue"))
    assert state.jobs[job].losses == 0
