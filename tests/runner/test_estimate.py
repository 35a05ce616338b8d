"""How long a run still takes, and how that is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sf_runner.progress import Progress
from sf_runner.state import events as ev
from sf_runner.state.estimate import Estimate, estimate, etas, format_duration
from sf_runner.state.fold import RunState
from tests.runner.builders import run_once, start, started_fresh, submit


def half_done(total: int, durations: list[float], *, running: int = 0, max_parallel: int = 2) -> RunState:
    """Jobs that succeeded after so many seconds, then `running` ones started at t=100."""
    state, jobs = started_fresh(total, max_parallel=max_parallel)
    for job, seconds in zip(jobs, durations, strict=False):
        run_once(state, job, duration_s=seconds)
    for job in jobs[len(durations) : len(durations) + running]:
        start(state, job, 100.0)
    return state


def seconds_left(state: RunState, now: float = 100.0, told: dict[str, float] | None = None) -> float | None:
    guess = estimate(state, now, told)
    return None if guess is None else guess.left_s


def test_nothing_is_known_before_anything_ended_or_said_so() -> None:
    assert seconds_left(half_done(4, [], running=2)) is None


def test_nothing_is_left_when_all_is_done() -> None:
    assert seconds_left(half_done(2, [1.0, 2.0])) is None


def test_waiting_and_running_jobs_share_the_slots() -> None:
    state = half_done(8, [10.0, 10.0], running=2)
    assert seconds_left(state, 100.0) == pytest.approx((2 * 10 + 4 * 10) / 2)
    assert seconds_left(state, 106.0) == pytest.approx((2 * 4 + 4 * 10) / 2)


def test_the_longest_running_job_counts_alone_at_the_end() -> None:
    state = half_done(4, [10.0, 10.0], running=2)
    told = {"job_/02_job_see_2": 500.0}
    assert seconds_left(state, 101.0, told) == 500.0


def test_a_last_waiting_job_runs_after_a_slot_is_free() -> None:
    state = half_done(13, [100.0, 100.0], running=10, max_parallel=10)
    assert seconds_left(state, 199.0) == pytest.approx(10.0 + 100.0)


def test_an_overdue_job_is_expected_to_end_soon() -> None:
    state = half_done(3, [10.0, 10.0], running=1)
    assert seconds_left(state, 1e6) == 1.0


def test_before_the_first_one_ended_their_own_estimates_serve() -> None:
    state = half_done(6, [], running=2)
    told = {"job_/00_job_see_0": 30.0, "job_/01_job_see_1": 50.0}
    guess = estimate(state, 110.0, told)
    assert guess is not None
    assert guess.left_s == pytest.approx((30 + 50 + 4 * 50) / 2)  # means of 40 and 60 in all
    assert guess.plus_minus_s is None
    assert guess.text == "about 2 min 20 s left (a rough guess)"


def test_a_job_that_is_only_submitted_counts_in_full() -> None:
    state = half_done(3, [10.0, 10.0])
    submit(state, "job_/02_job_see_2", 50.0)
    assert seconds_left(state, 1000.0) == 10.0


def test_what_is_being_ended_takes_no_time() -> None:
    state = half_done(3, [10.0, 10.0], running=1)
    state.apply(ev.StopRequested(t=101.0, job="job_/02_job_see_2", attempt=1, reason="cancelled"))
    assert seconds_left(state) is None


def test_a_draining_run_ends_with_what_runs() -> None:
    state = half_done(50, [10.0, 10.0], running=2)
    state.apply(ev.RunDraining(t=100.0, reason="interrupted"))
    assert seconds_left(state) == 10.0


def test_how_sure_it_is() -> None:
    sure = estimate(half_done(20, [10.0, 10.0, 10.0, 10.0]), 100.0)
    assert sure is not None
    assert sure.plus_minus_s == 0.0
    few, many = (estimate(half_done(60, [5.0, 15.0] * count), 100.0) for count in (1, 10))
    assert few is not None
    assert many is not None
    assert few.plus_minus_s is not None
    assert many.plus_minus_s is not None
    assert few.plus_minus_s > many.plus_minus_s > 0
    one = estimate(half_done(20, [10.0]), 100.0)
    assert one is not None
    assert one.plus_minus_s is None


def test_texts() -> None:
    assert Estimate(left_s=90.0, plus_minus_s=5.0).text == "about 1 min 30 s left (+- 5 s)"
    assert Estimate(left_s=90.0, plus_minus_s=0.2).text == "about 1 min 30 s left"
    assert Estimate(left_s=90.0, plus_minus_s=None).text == "about 1 min 30 s left (a rough guess)"


def test_what_a_job_says_gets_old() -> None:
    said = {
        "fresh": Progress(time_unix_s=100.0, eta_s=50.0),
        "old": Progress(time_unix_s=80.0, eta_s=50.0),
        "over": Progress(time_unix_s=0.0, eta_s=50.0),
        "ahead": Progress(time_unix_s=105.0, eta_s=50.0),  # another machine's clock
        "silent": Progress(time_unix_s=100.0, step=3),
    }
    assert etas(said, 100.0) == {"fresh": 50.0, "old": 30.0, "over": 0.0, "ahead": 50.0}


@given(
    st.lists(st.floats(0.001, 1e5), max_size=5),
    st.integers(0, 5),
    st.integers(1, 8),
    st.floats(0, 1e6),
    st.booleans(),
)
def test_an_estimate_is_never_negative_nor_below_what_one_job_takes(
    durations: list[float], running: int, max_parallel: int, later: float, told: bool
) -> None:
    state = half_done(12, durations, running=running, max_parallel=max_parallel)
    said = dict.fromkeys(state.active, 7.0) if told else {}
    guess = estimate(state, 100.0 + later, said)
    if not durations and not (told and running):
        assert guess is None
        return
    assert guess is not None
    assert guess.left_s >= max([0.0, *said.values()])
    if durations and state.count("Waiting"):
        assert guess.left_s >= state.durations.mean_s


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5.0, "0 s"),
        (0, "0 s"),
        (0.04, "0.0 s"),
        (1, "1 s"),
        (1.25, "1.2 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (3599.6, "1 h"),
        (7800, "2 h 10 min"),
        (86399, "23 h 59 min"),
        (86400, "1 d"),
        (273600, "3 d 4 h"),
        (1e9, "11574 d 1 h"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
