"""Real runs while the wall clock is set: nothing stops, nothing is ended too early."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from sf_runner.state import events as ev
from sf_runner.state.jobs import Cancelled, Failed, Running, Succeeded, Waiting
from tests.runner.harness import RunUnderTest, shell
from tests.runner.weather import Weather, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "available")

Make = Callable[..., RunUnderTest]
UNTIL_TOLD = "until test -e go; do sleep 0.02; done"
HOUR_S = 3600.0


@pytest.fixture
def weather(tmp_path: Path) -> Weather:
    return Weather(tmp_path / "sky")


def limited(name: str, script: str, timeout_s: float) -> str:
    return f"Experiment({name!r}, ['sh', '-c', {script!r}], resources=Resources(timeout_s={timeout_s}))"


def verdicts(run: RunUnderTest, job: str) -> list[str]:
    return [event.verdict for event in run.read_events(ev.AttemptEnded, job) if isinstance(event, ev.AttemptEnded)]


def test_a_clock_set_back_stops_neither_time_limits_nor_kill(make: Make, weather: Weather) -> None:
    deaf = "trap '' TERM; while true; do sleep 0.05; done"
    run = make(shell("long", "sleep 3600"), shell("deaf", deaf))
    run.start("--max_parallel=2", "--timeout=2", "--grace=0.5", env=weather.environ)
    for name in ("long", "deaf"):
        run.wait_for(name, Running)
    weather.set_clock(-600.0)
    assert run.finish() == 1
    for name in ("long", "deaf"):
        state = run.job(name).state
        assert isinstance(state, Failed)
        assert state.cause.kind == "timeout"
        assert 2.0 <= state.duration_s < 600.0
    (deaf_end,) = run.read_events(ev.AttemptEnded, "deaf")
    assert deaf_end.signal == signal.SIGKILL  # type: ignore[attr-defined]
    assert "the clock of this machine was set back by 10 min" in run.printed()


def test_requests_are_answered_and_retries_come_with_a_clock_set_back(make: Make, weather: Weather) -> None:
    run = make(shell("a", "sleep 3600"), shell("b", "test -e go || exit 3"))
    run.start(
        "--max_parallel=2", "--max_retries=1", "--retry_delay=2", "--pause_between=0.3", "--grace=5",
        env=weather.environ,
    )  # fmt: skip
    run.wait_for("b", Waiting)
    weather.set_clock(-600.0)
    run.wait("the runner to see it", lambda state: bool(run.read_events(ev.ClockSet)))
    (run.folder / "go").touch()
    assert run.tool("cancel", "a_/*").stdout == "1 running told to end, 0 waiting cancelled\n"
    assert run.finish() == 1
    assert isinstance(run.job("a").state, Cancelled)
    assert verdicts(run, "b") == ["retry", "succeeded"]


@pytest.mark.parametrize("by_s", [8 * HOUR_S, -8 * HOUR_S])
def test_a_clock_that_jumps_by_hours_ends_no_healthy_experiment(make: Make, weather: Weather, by_s: float) -> None:
    run = make(shell("healthy", f"echo starts; {UNTIL_TOLD}"), limited("late", "sleep 3600", 2.0))
    run.start("--max_parallel=2", "--timeout=60", "--stall_timeout=60", "--grace=5", env=weather.environ)
    for name in ("healthy", "late"):
        run.wait_for(name, Running)
    weather.set_clock(by_s)
    run.wait_for("late", Failed)  # all that run are looked at together, so the healthy one has been looked at, too
    assert run.read_events(ev.StopRequested, "healthy") == []
    (run.folder / "go").touch()
    assert run.finish() == 1
    assert isinstance(run.job("healthy").state, Succeeded)
    assert 0.0 < run.job("healthy").state.duration_s < 60.0
    late = run.job("late").state
    assert isinstance(late, Failed)
    assert 2.0 <= late.duration_s < 60.0


@pytest.mark.parametrize("by_s", [8 * HOUR_S, -600.0])
def test_a_clock_that_is_set_while_no_runner_is_there(make: Make, weather: Weather, by_s: float) -> None:
    script = "test -e second && sleep 3600; true"
    run = make(shell("healthy", UNTIL_TOLD), limited("late", script, 2.0))
    run.start("--max_parallel=2", "--timeout=60", env=weather.environ)
    run.wait_for("late", Succeeded)
    run.wait_for("healthy", Running)
    for pid in (run.guardian, run.runner):
        os.kill(pid, signal.SIGKILL)
    assert run.process is not None
    run.process.wait()
    weather.set_clock(by_s)
    (run.folder / "second").touch()
    run.describe(shell("healthy", UNTIL_TOLD), limited("late", script, 2.0), limited("later", script, 2.0))
    run.start("--max_parallel=2", "--timeout=60", env=weather.environ)
    run.wait_for("later", Failed)
    assert run.read_events(ev.StopRequested, "healthy") == []
    (run.folder / "go").touch()
    assert run.finish() == 1
    healthy = run.job("healthy")
    assert healthy.attempts == 1
    assert isinstance(healthy.state, Succeeded)
    assert healthy.state.duration_s < 60.0


@pytest.mark.parametrize("off_s", [-HOUR_S, pytest.param(HOUR_S, marks=pytest.mark.slow)])
def test_a_file_server_whose_clock_is_off(make: Make, weather: Weather, off_s: float) -> None:
    """Files get the times of another clock: requests are obeyed, silence is noticed, and only silence."""
    loud = "while ! test -e go; do echo step; sleep 0.2; done"
    weather.set_clock(off_s)
    run = make(shell("loud", loud), shell("silent", "echo starts; sleep 3600"), shell("third", "sleep 3600"))
    run.start("--max_parallel=3", "--stall_timeout=3", "--grace=5", env=weather.environ)
    for name in ("loud", "silent", "third"):
        run.wait_for(name, Running)
    assert run.tool("cancel", "third_/*").stdout == "1 running told to end, 0 waiting cancelled\n"
    run.wait_for("silent", Failed)
    assert run.read_events(ev.StopRequested, "loud") == []
    (run.folder / "go").touch()
    assert run.finish() == 1
    assert isinstance(run.job("loud").state, Succeeded)
    silent = run.job("silent").state
    assert isinstance(silent, Failed)
    assert silent.cause.kind == "stalled"
    assert silent.duration_s >= 3.0
