"""What is started next: a decision as a function of state, slots and time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sf_runner.describe.description import Experiment
from sf_runner.describe.plan import Plan
from sf_runner.engine.retries import MAX_START_FAILURES, judge
from sf_runner.engine.scheduler import MAX_SKIPS, Hold, Start
from sf_runner.slots.gpu_memory import LearnedPeaks
from sf_runner.state import events as ev
from tests.runner.builders import NOT_STARTED, OOM, make_run, resources, run_once, simple_plan, start, submit
from tests.runner.world import Launching, machine


def held(decision: Start | Hold) -> str:
    assert isinstance(decision, Hold)
    return decision.why


# ---- order and limits --------------------------------------------------------------------------------------------


def test_jobs_start_in_order_up_to_max_parallel() -> None:
    run = Launching(simple_plan(5), max_parallel=2)
    first = run.decide()
    assert isinstance(first, Start)
    assert first.job.index == 0
    run.take(first)
    assert len(run.start_all()) == 1
    assert held(run.decide()) == "max_parallel"
    run.finish(first.job.job_id)
    third = run.decide()
    assert isinstance(third, Start)
    assert third.job.index == 2


def test_nothing_left_to_start() -> None:
    run = Launching(simple_plan(1))
    run.start_all()
    assert run.decide() == Hold(why="nothing_ready")


def test_a_retry_is_awaited_and_goes_before_jobs_of_lower_rank() -> None:
    run = Launching(simple_plan(3), max_parallel=1)
    run_once(run.state, "job_/00_job_see_0", "retry", not_before=10.0)
    run_once(run.state, "job_/01_job_see_1")
    run_once(run.state, "job_/02_job_see_2")
    assert run.decide(9.0) == Hold(why="nothing_ready", until=10.0)
    decision = run.decide(10.0)
    assert isinstance(decision, Start)
    assert decision.job.index == 0


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (ev.RunDraining(t=1.0, reason="interrupted"), "draining"),
        (ev.PaceChanged(t=1.0, paused=True), "paused"),
        (ev.PaceChanged(t=1.0, max_parallel=0), "max_parallel"),
    ],
)
def test_what_holds_everything_back(event: ev.Event, why: str) -> None:
    run = Launching(simple_plan(2))
    run.state.apply(event)
    assert held(run.decide()) == why


def test_pausing_and_resuming() -> None:
    run = Launching(simple_plan(2))
    run.state.apply(ev.PaceChanged(t=1.0, paused=True))
    assert held(run.decide()) == "paused"
    run.state.apply(ev.PaceChanged(t=2.0, paused=False))
    assert isinstance(run.decide(), Start)


def test_pause_between_starts_counts_from_the_last_start() -> None:
    run = Launching(simple_plan(3), pause_between_s=10.0)
    assert len(run.start_all(100.0)) == 1
    assert run.decide(109.9) == Hold(why="pause", until=110.0)
    assert len(run.start_all(110.0)) == 1
    assert run.decide(110.0) == Hold(why="pause", until=120.0)


def test_a_clock_set_back_does_not_stop_the_run() -> None:
    run = Launching(simple_plan(3), pause_between_s=10.0)
    assert len(run.start_all(10_000.0)) == 1
    assert run.decide(500.0) == Hold(why="pause", until=510.0)
    assert len(run.start_all(510.0)) == 1


# ---- room --------------------------------------------------------------------------------------------------------


def two_shapes(big: int, small: int, **wants: Any) -> Plan:
    """Jobs that need four GPUs, then jobs that need one."""
    return make_run(
        Experiment("big", "true", [{"n": n} for n in range(big)], resources=resources(gpus=4)),
        Experiment("small", "true", [{"n": n} for n in range(small)], resources=resources(gpus=1, **wants)),
    )


def test_what_does_not_fit_lets_others_pass() -> None:
    run = Launching(two_shapes(2, 3), machine(gpus=5))
    assert run.start_all() == ["big", "small"]
    hold = run.decide()
    assert held(hold) == "no_room"
    assert isinstance(hold, Hold)
    assert hold.text == "all GPU slots are taken"
    assert len(hold.reasons) == 2


def test_a_large_job_is_passed_only_so_often() -> None:
    run = Launching(two_shapes(1, 60), machine(gpus=4))
    first = run.state.jobs["small_/00_small_n_0"]
    start(run.state, first.job_id, placement={"gpu_uuids": ["GPU-0"]})  # as if left by an earlier runner
    run.table = replace(run.table, gpus=(replace(run.table.gpus[0], jobs=1), *run.table.gpus[1:]))
    passed = 0
    while isinstance(decision := run.decide(), Start):
        assert decision.job.shape == "gpus=1"
        run.take(decision)
        passed += 1
        if passed % 3 == 0:  # they end, one GPU after the other
            run.finish(decision.job.job_id)
            for job in [job for job in run.state.active if job != first.job_id]:
                run.finish(job)
    assert passed == MAX_SKIPS
    assert held(run.decide()) == "no_room"
    run.finish_all()
    decision = run.decide()
    assert isinstance(decision, Start)
    assert decision.job.shape == "gpus=4"
    run.take(decision)
    run.finish(decision.job.job_id)
    assert run.start_all() == ["small"] * 4


def test_a_job_that_can_never_be_placed_holds_nobody_back() -> None:
    run = Launching(two_shapes(1, 60), machine(gpus=2))
    for _ in range(30):
        assert run.start_all() == ["small", "small"]
        run.finish_all()
    hold = run.decide()
    assert isinstance(hold, Hold)
    assert [reason.kind for reason in hold.reasons] == ["never"]
    assert hold.text == "it needs 4 GPUs, this run has 2"


def test_no_room_is_kept_where_waiting_for_our_jobs_does_not_help() -> None:
    """Four GPUs, one of them used by somebody else: the large job waits for that person, the small ones do not."""
    run = Launching(two_shapes(1, 90), machine(gpus=4, gpu_exclude_busy=True))
    busy = replace(run.table.gpus[0], stranger="process 1")
    run.table = replace(run.table, gpus=(busy, *run.table.gpus[1:]))
    for _ in range(30):
        assert run.start_all() == ["small"] * 3
        run.finish_all()
    assert run.state.count("Succeeded") == 90


def test_other_shapes_are_not_blamed_for_starts_of_better_rank() -> None:
    """Only starts that pass a waiting job count as passing it."""
    run = Launching(two_shapes(1, 1), machine(gpus=1))
    run.memory.skips = {"gpus=2": 7}  # a shape of which nothing waits any more
    assert run.start_all() == ["small"]
    assert run.memory.skips == {"gpus=4": 1}


def test_after_an_out_of_memory_a_roomier_gpu_is_asked_for_and_others_pass() -> None:
    run = Launching(simple_plan(4), machine(gpus=1, experiments_per_gpu=4, memory_mb=8000, gpu_memory_mb=1000))
    first, second = "job_/00_job_see_0", "job_/01_job_see_1"
    for expected in (first, second):
        decision = run.decide()
        assert isinstance(decision, Start)
        assert decision.job.job_id == expected
        run.take(decision)
    run.finish(second, "retry", cause=OOM)
    assert run.state.jobs[second].oom_room_mb == 7000
    # Beside the first there is not more room than before: the third may pass.
    decision = run.decide(10.0)
    assert isinstance(decision, Start)
    assert decision.job.index == 2
    run.finish(first)
    decision = run.decide(10.0)
    assert isinstance(decision, Start)
    assert decision.job.job_id == second


def test_what_was_learned_on_a_larger_gpu_does_not_keep_a_job_from_ever_running() -> None:
    plan = simple_plan(1)
    peaks = LearnedPeaks(peaks_mb={plan.jobs[0].config_key: 70_000})
    run = Launching(plan, machine(gpus=1, memory_mb=8000, peaks=peaks))
    assert isinstance(run.decide(), Start)


def test_learned_peaks_decide_who_may_share() -> None:
    plan = simple_plan(3)
    peaks = LearnedPeaks(peaks_mb={plan.jobs[0].config_key: 4000})
    run = Launching(plan, machine(gpus=1, memory_mb=10_000, experiments_per_gpu=4, peaks=peaks))
    assert len(run.start_all()) == 2


# ---- starting fails ----------------------------------------------------------------------------------------------


def not_started(run: Launching, job: str, t: float) -> ev.AttemptEnded:
    submit(run.state, job, t)
    event = judge(
        run.state.jobs[job],
        t=t,
        duration_s=0.0,
        exit_record=None,
        cause=NOT_STARTED,
        completed=False,
        policy=run.policy,
    )
    run.state.apply(event)
    return event


def test_a_machine_that_cannot_start_anything_is_not_stormed() -> None:
    run = Launching(simple_plan(100), max_parallel=50)
    now, attempts = 0.0, 0
    while now < 600.0:
        decision = run.decide(now)
        if isinstance(decision, Start):
            not_started(run, decision.job.job_id, now)
            attempts += 1
        else:
            assert decision.why == "cannot_start"
            assert decision.until is not None
            assert decision.until > now
            assert "could not start" in decision.text
            now = decision.until
    assert attempts < 20  # in ten minutes, 1 + 2 + 4 + ... + 60 + 60 seconds apart
    started = run.decide(now)
    assert isinstance(started, Start)
    run.take(started, now)  # the machine recovered: nothing waits any longer
    assert len(run.start_all(now)) > 40


def test_a_single_job_that_cannot_be_started_is_given_up_in_the_end() -> None:
    run = Launching(simple_plan(1))
    now = 0.0
    for attempt in range(MAX_START_FAILURES):
        decision = run.decide(now)
        assert isinstance(decision, Start), attempt
        event = not_started(run, decision.job.job_id, now)
        assert event.verdict == "requeue"
        assert event.not_before == now + min(2.0**attempt, 600.0)
        now = event.not_before + 60.0
    event = not_started(run, "job_/00_job_see_0", now)
    assert event.verdict == "failed"
    assert run.state.finished
