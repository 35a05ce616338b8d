"""The clock is set, or the machine sleeps: what the journal knows of times is put right."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sf_runner.backends.base import Ended, Started
from sf_runner.basics.clock import Clock, Jump, Reading
from sf_runner.basics.paths import RunPaths
from sf_runner.engine.clock_news import look_at_clock
from sf_runner.engine.outcomes import record_reports
from sf_runner.engine.scheduler import Policy, overdue
from sf_runner.state import events as ev
from sf_runner.state.compact import columns_of, state_of
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import Running, Stopping, Waiting
from sf_runner.testing.fake_clock import SettableClock
from tests.runner.builders import end, opened, start, started_fresh, submit

START = Reading(wall=1e9, steady=100.0, boot=150.0)


@pytest.mark.parametrize(
    ("set_s", "slept_s"), [(0.0, 0.0), (0.3, 0.0), (-600.0, 0.0), (28_800.0, 0.0), (0.0, 28_800.0), (-3.0, 60.0)]
)
def test_a_clock_notices_when_it_was_set_and_when_the_machine_slept(set_s: float, slept_s: float) -> None:
    clock = SettableClock(START)
    clock.pass_time(10.0, set_s=set_s, slept_s=slept_s)
    jump = clock.look()
    assert bool(jump) == (abs(set_s) >= 0.5 or slept_s > 0)
    assert (jump.set_s, jump.slept_s) == pytest.approx((set_s, slept_s))
    assert not clock.look() or abs(set_s) < 0.5


@pytest.mark.parametrize("set_s", [-0.4, 0.4, -600.0, 600.0])
def test_the_quick_look_sees_what_the_whole_one_does(monkeypatch: pytest.MonkeyPatch, set_s: float) -> None:
    clock, real = Clock(), time.time
    monkeypatch.setattr(time, "time", lambda: real() + set_s)
    assert bool(clock.look()) == (abs(set_s) > 0.5)
    assert not clock.look()


def test_steps_too_small_to_notice_add_up() -> None:
    clock = SettableClock(START)
    seen = 0.0
    for _ in range(10):
        clock.pass_time(1.0, set_s=0.2)
        if jump := clock.look():
            seen += jump.set_s
    assert 1.5 < seen <= 2.0


def test_the_real_clock_is_close_to_wall_time_and_does_not_jump_by_itself() -> None:
    clock = Clock()
    assert not clock.look()
    now, reading = clock.now(), clock.read()
    assert abs(now.wall - reading.wall) < 60.0
    assert now.steady <= reading.steady


def at(reading: Reading, set_s: float = 0.0, slept_s: float = 0.0, later_s: float = 0.0) -> ev.ClockSet:
    boot = reading.boot + later_s + slept_s
    wall = reading.wall + later_s + slept_s + set_s
    return ev.ClockSet(t=wall, clocks=(reading.steady + later_s, boot))


def reopened(event: ev.ClockSet, boot: str = "b") -> ev.RunOpened:
    return opened(event.t, clocks=event.clocks, boot_id=boot)


@pytest.fixture
def state() -> RunState:
    """One runs, one is told to end, one was submitted, one waits for its retry, at START."""
    state, jobs = started_fresh(5, t=START.wall, clocks=START.unset)
    for job in jobs[:2]:
        start(state, job, START.wall + 1.0)
    state.apply(ev.StopRequested(t=START.wall + 2.0, job=jobs[1], attempt=1, reason="cancelled"))
    submit(state, jobs[2], START.wall + 1.0)
    start(state, jobs[3], START.wall + 1.0)
    end(state, jobs[3], "retry", START.wall + 5.0, not_before=START.wall + 25.0)
    return state


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("set_s", [-600.0, 28_800.0])
def test_times_follow_a_clock_that_is_set(state: RunState, set_s: float, restarted: bool) -> None:
    running, stopping, _, retrying, _ = state.jobs.values()
    event = at(START, set_s, later_s=10.0)
    state.apply(reopened(event) if restarted else event)
    assert isinstance(running.state, Running)
    assert running.state.elapsed_s(event.t) == pytest.approx(9.0)
    assert isinstance(stopping.state, Stopping)
    assert event.t - stopping.state.since == pytest.approx(8.0)
    assert isinstance(retrying.state, Waiting)
    assert retrying.state.not_before - event.t == pytest.approx(15.0)
    assert state.next_delayed_at() == pytest.approx(event.t + 15.0)
    assert event.t - state.first_opened_at == pytest.approx(10.0)
    state.release_delayed(event.t + 14.0)
    assert retrying not in state.ready()
    state.release_delayed(event.t + 16.0)
    assert state.ready()[0] is retrying


def test_sleep_counts_for_no_time_limit(state: RunState) -> None:
    record = next(iter(state.jobs.values()))
    event = at(START, slept_s=28_800.0, later_s=10.0)
    state.apply(event)
    assert isinstance(record.state, Running)
    assert record.state.started_at == START.wall + 1.0
    assert record.state.elapsed_s(event.t) == pytest.approx(9.0)
    assert overdue(record, Policy(timeout_s=60.0), event.t + 50.0, None) is None
    assert overdue(record, Policy(timeout_s=60.0), event.t + 52.0, None) == "timeout"


def test_experiments_elsewhere_do_not_sleep_with_the_runners_machine(state: RunState) -> None:
    record = next(iter(state.jobs.values()))
    state.apply(opened(START.wall, backend="slurm", queues=True, local=False, clocks=START.unset))
    event = at(START, slept_s=28_800.0, later_s=10.0)
    state.apply(event)
    assert isinstance(record.state, Running)
    assert record.state.elapsed_s(event.t) == pytest.approx(28_809.0)


@pytest.mark.parametrize(
    ("set_s", "slept_s", "local", "text"),
    [
        (-600.0, 0.0, True, "the clock of this machine was set back by 10 min; time limits go on as before"),
        (7200.0, 0.0, False, "the clock of this machine was set forward by 2 h; time limits go on as before"),
        (0.0, 28_800.0, True, "this machine slept for 8 h, which counts for no time limit"),
        (0.0, 28_800.0, False, "this machine slept for 8 h"),
        (2.0, 0.0, True, ""),
    ],
)
def test_what_people_are_told(set_s: float, slept_s: float, local: bool, text: str) -> None:
    clock = SettableClock(START)
    assert look_at_clock(clock, local=local)[1] == []
    clock.pass_time(1.0, set_s=set_s, slept_s=slept_s)
    _, news = look_at_clock(clock, local=local)
    assert isinstance(news[0], ev.ClockSet)
    assert [event.text for event in news if isinstance(event, ev.Note)] == ([text] if text else [])


def test_after_a_reboot_nobody_waits_longer_than_was_meant(state: RunState) -> None:
    """The clock was wrong before, and nobody knows by how much."""
    retrying = list(state.jobs.values())[3]
    state.apply(reopened(replace(at(START), t=START.wall - 90_000.0), boot="another"))
    assert isinstance(retrying.state, Waiting)
    assert retrying.state.not_before == START.wall - 90_000.0 + 20.0


def test_a_journal_without_readings_is_taken_as_it_is(state: RunState) -> None:
    running = next(iter(state.jobs.values()))
    state.apply(opened(START.wall + 500.0))
    state.apply(reopened(at(START, set_s=700.0)))
    assert isinstance(running.state, Running)
    assert running.state.started_at == START.wall + 1.0


@pytest.mark.parametrize("off_s", [-5000.0, 5000.0])
def test_ends_told_by_another_machine_are_neither_before_their_start_nor_in_the_future(
    off_s: float, tmp_path: Path
) -> None:
    state, (job, _) = started_fresh(2)
    submit(state, job, 1000.0)
    paths = RunPaths(train_dir=tmp_path, run_name="study")
    reports = [
        Started(job=job, attempt=1, handle={}, t=1010.0 + off_s),
        Ended(job=job, attempt=1, t=1020.0 + off_s, record={"exit_code": 1}),
    ]
    news: list[ev.Event] = []

    def record(event: ev.Event) -> None:
        state.apply(event)
        news.append(event)

    policy = Policy(max_retries=1, retry_delay_s=7.0)
    record_reports(reports, state.jobs, lambda record: paths.job(record.job_id), policy, record, now=1025.0)
    started, ended = news
    assert 1000.0 <= started.t <= ended.t <= 1025.0
    assert isinstance(ended, ev.AttemptEnded)
    assert 0.0 <= ended.duration_s <= 25.0
    assert ended.not_before <= 1025.0 + 7.0


def test_what_is_kept_beside_a_large_journal_holds_the_clocks(state: RunState) -> None:
    state.apply(at(START, set_s=-600.0, slept_s=60.0, later_s=10.0))
    kept = state_of(json.loads(json.dumps(columns_of(state))), lambda offset: [])
    assert kept.clocks == state.clocks
    assert [record.state for record in kept.jobs.values()] == [record.state for record in state.jobs.values()]


def test_a_jump_is_something_only_when_it_is_large_enough() -> None:
    assert not Jump()
    assert not Jump(set_s=-0.4)
    assert Jump(set_s=-0.6)
    assert Jump(slept_s=1.0)
