"""The reducer: what every event means, and which ones make no sense."""

from __future__ import annotations

import pytest

from sf_runner.describe.description import Experiment
from sf_runner.state import events as ev
from sf_runner.state.fold import RunState, replay
from sf_runner.state.jobs import (
    Cancelled,
    Failed,
    IllegalTransitionError,
    Running,
    Stopping,
    Submitted,
    Succeeded,
    Waiting,
)
from tests.runner.builders import (
    CAUSE,
    NOT_STARTED,
    OOM,
    check_consistency,
    end,
    essence,
    fresh,
    make_run,
    names,
    opened,
    opening,
    resources,
    run_once,
    simple_plan,
    start,
    started_fresh,
    submit,
)


def test_a_fresh_run_waits() -> None:
    state, jobs = started_fresh(3)
    assert (state.run_id, state.run_name, state.max_parallel, state.total) == ("cafe", "study", 2, 3)
    assert state.count("Waiting") == 3
    assert names(state.ready()) == jobs[:1]
    assert not state.finished
    check_consistency(state)


def test_an_attempt_from_submission_to_success() -> None:
    state, (job, _) = started_fresh(2)
    record = state.jobs[job]
    submit(state, job, 1.0, {"cores": [3]})
    assert record.state == Submitted(attempt=1, submitted_at=1.0, placement={"cores": [3]})
    state.apply(ev.AttemptStarted(t=1.5, job=job, attempt=1, handle={"pid": 7}))
    assert isinstance(record.state, Running)
    assert (record.state.submitted_at, record.state.started_at) == (1.0, 1.5)
    assert (record.state.placement, record.state.handle) == ({"cores": [3]}, {"pid": 7})
    assert list(state.active) == [job]
    end(state, job, "succeeded", 4.0, duration_s=2.5)
    assert record.state == Succeeded(attempt=1, ended_at=4.0, duration_s=2.5)
    assert state.active == {}
    assert (state.durations.count, state.durations.mean_s) == (1, 2.5)
    check_consistency(state)


def test_an_attempt_may_end_before_anybody_saw_it_run() -> None:
    state, (job, _) = started_fresh(2)
    submit(state, job)
    end(state, job, "requeue", duration_s=0.0)
    assert isinstance(state.jobs[job].state, Waiting)
    assert state.jobs[job].failures == 0
    assert state.jobs[job].attempts == 1
    check_consistency(state)


def test_retry_waits_and_counts_and_requeue_does_not() -> None:
    state, (job, other) = started_fresh(2)
    run_once(state, job, "retry", not_before=9.0)
    record = state.jobs[job]
    assert record.state == Waiting(not_before=9.0, delay_s=7.0, last_cause=CAUSE)
    assert (record.failures, record.attempts, record.elapsed_s) == (1, 1, 1.0)
    assert names(state.ready()) == [other]
    assert state.next_delayed_at() == 9.0
    state.release_delayed(8.9)
    assert names(state.ready()) == [other]
    state.release_delayed(9.0)
    assert names(state.ready()) == [job]  # its rank is the best again
    assert state.next_delayed_at() is None
    run_once(state, job, "requeue")
    assert record.failures == 1
    assert names(state.ready()) == [job]
    check_consistency(state)


def test_delays_end_in_order_of_time_not_of_rank() -> None:
    state, jobs = started_fresh(3)
    for job, until in zip(jobs, (30.0, 10.0, 20.0), strict=True):
        run_once(state, job, "retry", not_before=until)
    assert state.next_delayed_at() == 10.0
    state.release_delayed(10.0)
    assert names(state.ready()) == [jobs[1]]
    state.release_delayed(1e9)
    ready = []
    while state.ready():
        ready += names(state.ready())
        submit(state, ready[-1])
    assert ready == jobs  # once all may start, rank decides
    check_consistency(state)


def test_a_failed_attempt_keeps_its_cause() -> None:
    state, (job, _) = started_fresh(2)
    run_once(state, job, "failed")
    assert state.jobs[job].state == Failed(attempt=1, ended_at=2.0, duration_s=1.0, cause=CAUSE)
    assert names(state.failures()) == [job]
    assert (state.failed_this_session, state.failing_this_session) == (1, {job})


def test_cancelling_waiting_and_running_jobs() -> None:
    state, (waiting, running) = started_fresh(2)
    state.apply(ev.JobCancelled(t=3.0, job=waiting))
    assert state.jobs[waiting].state == Cancelled(ended_at=3.0, attempt=0)
    start(state, running)
    state.apply(ev.StopRequested(t=4.0, job=running, attempt=1, reason="cancelled"))
    assert isinstance(state.jobs[running].state, Stopping)
    end(state, running, "cancelled", 5.0)
    assert state.jobs[running].state == Cancelled(ended_at=5.0, attempt=1)
    assert state.finished
    assert state.failed_this_session == 0
    check_consistency(state)


def test_stopping_keeps_the_slot_and_takes_the_last_reason() -> None:
    state, (job, _) = started_fresh(2)
    start(state, job, 1.0, {"cores": [1]})
    state.apply(ev.StopRequested(t=2.0, job=job, attempt=1, reason="timeout"))
    state.apply(ev.StopRequested(t=3.0, job=job, attempt=1, reason="cancelled"))
    stopping = state.jobs[job].state
    assert isinstance(stopping, Stopping)
    assert (stopping.reason, stopping.since, stopping.attempt) == ("cancelled", 3.0, 1)
    assert stopping.placement == {"cores": [1]}
    assert job in state.active


def test_told_to_stop_before_it_was_known_to_run() -> None:
    state, (job, _) = started_fresh(2)
    submit(state, job)
    state.apply(ev.StopRequested(t=2.0, job=job, attempt=1, reason="shutdown"))
    state.apply(ev.AttemptStarted(t=2.5, job=job, attempt=1, handle={"pid": 9}))
    stopping = state.jobs[job].state
    assert isinstance(stopping, Stopping)
    assert isinstance(stopping.running, Running)
    assert stopping.running.handle == {"pid": 9}


def test_asking_for_a_job_again_forgets_its_failures() -> None:
    state, (job, other) = started_fresh(2)
    run_once(state, job, "retry", cause=OOM)
    run_once(state, job, "failed")
    record = state.jobs[job]
    assert (record.failures, record.oom_failures, record.attempts) == (2, 1, 2)
    state.apply(ev.JobRequeued(t=5.0, job=job))
    assert (record.failures, record.oom_failures, record.attempts) == (0, 0, 2)
    assert names(state.ready()) == [job]
    run_once(state, job)
    assert record.state == Succeeded(attempt=3, ended_at=2.0, duration_s=1.0)
    assert names(state.ready()) == [other]
    check_consistency(state)


def test_a_waiting_job_cancelled_and_asked_for_again_is_started_once() -> None:
    state, (job, other) = started_fresh(2)
    for _ in range(3):
        state.apply(ev.JobCancelled(t=1.0, job=job))
        state.apply(ev.JobRequeued(t=1.0, job=job))
    assert names(state.ready()) == [job]
    run_once(state, job)
    assert names(state.ready()) == [other]


def test_an_out_of_memory_makes_a_queue_of_its_own() -> None:
    state, (job, other) = started_fresh(2)
    start(state, job, placement={"room_mb": 4000})
    end(state, job, "retry", cause=OOM)
    assert state.jobs[job].oom_room_mb == 4000
    assert names(state.ready()) == [job, other]
    assert {record.queue for record in state.ready()} == {"", f"!{job}"}
    submit(state, job)
    assert names(state.ready()) == [other]


def test_what_the_machine_could_not_start_is_counted_until_something_starts() -> None:
    state, (job, other) = started_fresh(2)
    for number in (1, 2):
        submit(state, job, float(number))
        end(state, job, "requeue", number + 0.5, cause=NOT_STARTED)
        assert (state.start_failures, state.jobs[job].start_failures) == (number, number)
    assert state.start_failed_at == 2.5
    start(state, other)
    assert (state.start_failures, state.jobs[job].start_failures) == (0, 2)
    start(state, job)
    assert state.jobs[job].start_failures == 0


def test_a_job_that_left_the_description_is_not_started_nor_counted() -> None:
    state, (gone, kept) = started_fresh(2)
    state.apply(ev.JobsChanged(t=1.0, jobs=[{"id": gone, "planned": False}]))
    assert (state.total, names(state.ready())) == (1, [kept])
    run_once(state, kept)
    assert state.finished
    state.apply(ev.JobsChanged(t=3.0, jobs=[{"id": gone, "planned": True}]))
    assert (state.total, names(state.ready()), state.finished) == (2, [gone], False)
    check_consistency(state)


def test_a_running_job_that_left_the_description_ends_in_peace() -> None:
    state, (gone, kept) = started_fresh(2)
    start(state, gone)
    state.apply(ev.JobsChanged(t=1.0, jobs=[{"id": gone, "planned": False}]))
    run_once(state, kept)
    assert not state.finished
    end(state, gone, "retry")
    assert state.finished
    assert state.ready() == []
    check_consistency(state)


def test_a_new_rank_changes_the_order() -> None:
    state, (first, second) = started_fresh(2)
    state.apply(ev.JobsChanged(t=1.0, jobs=[{"id": second, "rank": -1.0}]))
    assert names(state.ready()) == [second]
    state.apply(ev.JobsChanged(t=1.0, jobs=[{"id": second, "rank": 7.0}]))
    assert names(state.ready()) == [first]
    submit(state, first)
    assert names(state.ready()) == [second]
    submit(state, second)
    assert state.ready() == []


def test_a_complete_description_replaces_the_old_one() -> None:
    old = make_run(Experiment("job", "true", resources=resources(cpus=2, timeout_s=5.0)))
    new = make_run(Experiment("job", "true"))
    state = fresh(old)
    (record,) = state.ready()
    assert (record.shape, record.timeout_s) == ("cpus=2", 5.0)
    state.apply_all(opening(new, state, t=1.0))
    assert (record.shape, record.timeout_s) == ("", None)
    assert [job.queue for job in state.ready()] == [""]  # no longer where it waited first
    assert essence(state)["jobs"] == essence(fresh(new))["jobs"]


def test_a_start_begins_a_session() -> None:
    state, (job, _) = started_fresh(2, t=1.0)
    run_once(state, job, "failed")
    state.apply(ev.PaceChanged(t=3.0, paused=True, max_parallel=9))
    state.apply(ev.RunDraining(t=3.0, reason="interrupted"))
    assert (state.paused, state.max_parallel) == (True, 9)
    state.apply(ev.RunClosed(t=4.0, exit_code=1))
    state.apply(opened(9.0, pid=11, max_parallel=4, max_retries=3))
    assert (state.paused, state.max_parallel, state.max_retries) == (False, 4, 3)
    assert (state.draining, state.closed, state.failed_this_session) == (None, None, 0)
    assert state.failing_this_session == set()
    assert [runner["pid"] for runner in state.runners] == [10, 11]
    assert state.first_opened_at == 1.0


def test_only_the_latest_notes_are_kept() -> None:
    state, _ = started_fresh(1)
    for number in range(500):
        state.apply(ev.Note(t=1.0, text=str(number)))
    assert [note.text for note in state.notes] == [str(number) for number in range(300, 500)]


def test_mean_and_spread_of_durations() -> None:
    state, jobs = started_fresh(4)
    assert state.durations.stddev_s == 0.0
    for job, seconds in zip(jobs, (2.0, 4.0, 9.0, 1.0), strict=True):
        run_once(state, job, duration_s=seconds)
    assert state.durations.mean_s == pytest.approx(4.0)
    assert state.durations.stddev_s == pytest.approx(((4 + 0 + 25 + 9) / 3) ** 0.5)


@pytest.mark.parametrize("state_name", ["Succeeded", "Failed", "Cancelled", "Submitted", "Running", "Stopping"])
def test_only_a_waiting_job_can_be_submitted(state_name: str) -> None:
    state, (job, _) = started_fresh(2)
    if state_name in ("Succeeded", "Failed"):
        run_once(state, job, state_name.lower())
    elif state_name == "Cancelled":
        state.apply(ev.JobCancelled(t=1.0, job=job))
    else:
        submit(state, job)
        if state_name != "Submitted":
            state.apply(ev.AttemptStarted(t=1.0, job=job, attempt=1, handle={}))
        if state_name == "Stopping":
            state.apply(ev.StopRequested(t=1.0, job=job, attempt=1, reason="timeout"))
    with pytest.raises(IllegalTransitionError, match=f"{job}: {state_name} -> Submitted"):
        submit(state, job)


@pytest.mark.parametrize("verdict", ["succeeded", "failed", "retry", "requeue", "cancelled"])
def test_what_does_not_run_cannot_end(verdict: str) -> None:
    state, (job, _) = started_fresh(2)
    run_once(state, job)
    if verdict in ("retry", "requeue"):  # an ended job waits again only when somebody asks
        state.apply(ev.JobRequeued(t=3.0, job=job))
    with pytest.raises(AssertionError):
        end(state, job, verdict)


def test_what_holds_no_slot_cannot_be_stopped() -> None:
    state, (job, _) = started_fresh(2)
    with pytest.raises(AssertionError, match="holds no slot"):
        state.apply(ev.StopRequested(t=1.0, job=job, attempt=1, reason="timeout"))


def test_a_job_is_planned_once() -> None:
    state, (job, _) = started_fresh(2)
    entry = {"id": job, "index": 0, "rank": 0, "fp": "x"}
    with pytest.raises(AssertionError, match="planned twice"):
        state.apply(ev.JobsPlanned(t=1.0, jobs=[entry]))


def test_a_journal_that_contradicts_itself_is_one_clear_error() -> None:
    plan = simple_plan(2)
    job = plan.jobs[0].job_id
    events: list[ev.Event] = [
        ev.JournalCreated(t=0.0, version=1, run_id="x", run_name="s"),
        *opening(plan, RunState()),
        ev.AttemptEnded(t=1.0, job=job, attempt=1, verdict="succeeded"),
    ]
    with pytest.raises(ev.JournalError, match=r"some/journal: line 4 \(ended\) contradicts the lines before it"):
        replay(events, "some/journal")
    events[-1] = ev.JobCancelled(t=1.0, job="nobody knows it")
    with pytest.raises(ev.JournalError, match=r"line 4 \(cancelled\) contradicts .*nobody knows it"):
        replay(events, "some/journal")
    assert replay(events[:-1], "some/journal").total == 2


def test_an_attempt_that_was_withdrawn_does_not_count() -> None:
    state, (job, _) = started_fresh(2)
    submit(state, job)
    state.apply(ev.AttemptWithdrawn(t=2.0, job=job, attempt=1))
    assert isinstance(state.jobs[job].state, Waiting)
    assert (state.jobs[job].attempts, state.count("Waiting")) == (0, 2)
    assert names(state.ready()) == [job]
    check_consistency(state)
    submit(state, job, 3.0)
    state.apply(ev.StopRequested(t=4.0, job=job, attempt=1, reason="shutdown"))
    state.apply(ev.AttemptWithdrawn(t=5.0, job=job, attempt=1))
    assert state.jobs[job].attempts == 0
    check_consistency(state)
