"""Failures, retries, limits and pauses through the real runner."""

from __future__ import annotations

import itertools
import os
import signal
import time
from pathlib import Path

from sf_runner.state import events as ev
from sf_runner.state.jobs import Cancelled, Failed, Running, Succeeded, Waiting
from tests.runner.harness import RunUnderTest, run_under_test, shell, wait_until

COUNT = "echo x >> tries_{0}; test $(wc -l < tries_{0}) -ge {1} || exit {2}"
"""Succeeds at the given attempt."""


def endings(run: RunUnderTest, job: str | None = None) -> list[ev.AttemptEnded]:
    return [event for event in run.read_events(ev.AttemptEnded, job) if isinstance(event, ev.AttemptEnded)]


def test_failed_attempts_are_tried_again_after_a_growing_pause(tmp_path: Path) -> None:
    jobs = [shell("third", COUNT.format("third", 3, 7)), shell("never", "echo 'ValueError: no 12'; exit 1")]
    with run_under_test(tmp_path, *jobs) as run:
        assert run.start("--max_retries=2", "--retry_delay=0.1").wait(60) == 1
        assert [(e.verdict, e.code) for e in endings(run, "third")] == [("retry", 7), ("retry", 7), ("succeeded", 0)]
        assert [e.verdict for e in endings(run, "never")] == ["retry", "retry", "failed"]
        waits = [round(e.not_before - e.t, 3) for e in endings(run, "never")[:2]]
        assert waits == [0.1, 0.2]
        starts = [e.t for e in run.read_events(ev.AttemptSubmitted, "never")]
        for ended, start in zip(endings(run, "never"), starts[1:], strict=False):
            assert start >= ended.not_before - 0.001
        assert run.job("never").attempts == 3
        assert run.log("never", attempt=3) == "ValueError: no 12\n"
        assert "1 x exit code 1: ValueError: no 12" in run.printed()


def test_failed_ones_are_run_again_only_when_asked_for(tmp_path: Path) -> None:
    jobs = [shell("second", COUNT.format("second", 2, 1)), shell("good", "echo good >> done")]
    with run_under_test(tmp_path, *jobs) as run:
        assert run.start().wait(60) == 1
        assert run.start().wait(60) == 1
        assert run.read()
        assert run.job("second").attempts == 1
        assert run.start("--retry_failed").wait(60) == 0
        run.read()
        assert isinstance(run.job("second").state, Succeeded)
        assert (tmp_path / "done").read_text() == "good\n"


def test_max_failures_stops_launching_and_lets_others_finish(tmp_path: Path) -> None:
    jobs = [shell(f"bad{number}", "exit 1") for number in range(6)]
    slow = shell("slow", "until test -e go; do sleep 0.02; done")
    with run_under_test(tmp_path, slow, *jobs) as run:
        run.start("--max_parallel=2", "--max_failures=3")
        run.wait("it to stop", lambda state: state.draining is not None and state.draining.reason == "max_failures")
        assert isinstance(run.job("slow").state, Running)
        (tmp_path / "go").touch()
        assert run.finish() == 1
        assert run.state.counts["Failed"] == 3
        assert isinstance(run.job("slow").state, Succeeded)
        assert run.state.count("Waiting") == 3
        assert "3 experiments failed (--max_failures=3)" in run.printed()


def test_everything_failing_at_once_stops_by_itself(tmp_path: Path) -> None:
    grid = "ParamGrid([('i', list(range(40)))]).generate_params(randomize=False)"
    jobs = f"Experiment('bad', ['sh', '-c', 'exit 1'], {grid})"
    with run_under_test(tmp_path, jobs) as run:
        assert run.start("--max_parallel=2").wait(60) == 1
        run.read()
        assert 10 <= run.state.count("Failed") < 14
        assert "--max_failures=0" in run.printed(), "and the flag that goes on regardless is named"
        assert run.start("--max_parallel=2", "--max_failures=0").wait(60) == 1
        assert run.read().count("Failed") == 40


def test_a_timeout_ends_the_attempt_and_counts_as_a_failure(tmp_path: Path) -> None:
    jobs = [shell("long", "sleep 1000"), shell("short", "exit 0")]
    with run_under_test(tmp_path, *jobs) as run:
        assert run.start("--timeout=1", "--grace=5").wait(60) == 1
        run.read()
        state = run.job("long").state
        assert isinstance(state, Failed)
        assert (state.cause.kind, state.cause.summary) == ("timeout", "ran longer than 1 s (--timeout)")
        assert state.duration_s >= 1.0
        assert isinstance(run.job("short").state, Succeeded)
        assert run.left() == []


def test_a_stalled_attempt_is_ended_but_not_one_that_is_starting_up(tmp_path: Path) -> None:
    stalls = "echo working; sleep 1000"
    silent = "until test -e go; do sleep 0.02; done"
    with run_under_test(tmp_path, shell("stalls", stalls), shell("silent", silent)) as run:
        run.start("--max_parallel=2", "--stall_timeout=1", "--grace=5")
        run.wait_for("stalls", Failed)
        state = run.job("stalls").state
        assert isinstance(state, Failed)
        assert (state.cause.kind, state.cause.summary) == ("stalled", "wrote nothing for 1 s (--stall_timeout)")
        assert isinstance(run.job("silent").state, Running), "it has written nothing yet: it may be starting up"
        (tmp_path / "go").touch()
        assert run.finish() == 1


def test_silence_while_everything_was_suspended_is_no_stall(tmp_path: Path) -> None:
    """As when a laptop sleeps: neither the runner nor its jobs run, but the clock does."""
    works = "until test -e go; do echo working; sleep 0.1; done"
    with run_under_test(tmp_path, shell("works", works)) as run:
        run.start("--stall_timeout=2.5", "--grace=5")
        run.wait_for("works", Running)
        wait_until("its first line", lambda: "working" in run.log("works"))
        job = run.pid("works")
        os.killpg(job, signal.SIGSTOP)
        os.kill(run.runner, signal.SIGSTOP)
        time.sleep(4)  # longer than the limit, by the clock of the journal
        os.kill(run.runner, signal.SIGCONT)
        time.sleep(1)  # the runner looks before the job has written again
        os.killpg(job, signal.SIGCONT)
        (tmp_path / "go").touch()
        assert run.finish() == 0
        assert isinstance(run.job("works").state, Succeeded)


def test_a_pause_between_starts_does_not_hold_up_what_ends(tmp_path: Path) -> None:
    grid = "ParamGrid([('i', list(range(4)))]).generate_params(randomize=False)"
    jobs = f"Experiment('job', ['sh', '-c', 'exit 0'], {grid})"
    with run_under_test(tmp_path, jobs) as run:
        assert run.start("--max_parallel=4", "--pause_between=0.6").wait(60) == 0
        starts = [event.t for event in run.read_events(ev.AttemptSubmitted)]
        assert all(later - earlier >= 0.59 for earlier, later in itertools.pairwise(starts))
        # Each end is in the journal before the next start: nobody waited for the pause to hear of it.
        kinds = [type(event) for event in run.events if isinstance(event, ev.AttemptSubmitted | ev.AttemptEnded)]
        assert kinds == [ev.AttemptSubmitted, ev.AttemptEnded] * 4


def test_cancelled_ones_stay_cancelled_unless_asked_for(tmp_path: Path) -> None:
    wait = "until test -e go; do sleep 0.02; done"
    with run_under_test(tmp_path, shell("a", wait), shell("b", wait)) as run:
        run.start("--max_parallel=1", "--grace=5")
        run.wait_for("a", Running)
        assert run.tool("cancel", "b_/*").stdout == "0 running told to end, 1 waiting cancelled\n"
        (tmp_path / "go").touch()
        assert run.finish() == 1
        assert isinstance(run.job("a").state, Succeeded)
        assert isinstance(run.job("b").state, Cancelled)
        assert run.start().wait(60) == 1
        assert run.read()
        assert isinstance(run.job("b").state, Cancelled)
        assert run.start("--retry_cancelled").wait(60) == 0
        run.read()
        assert isinstance(run.job("b").state, Succeeded)
        assert run.state.count("Waiting") == 0
        assert not [job for job in run.state.jobs.values() if isinstance(job.state, Waiting)]


def test_a_retry_is_awaited_beside_an_experiment_that_can_never_be_placed(tmp_path: Path) -> None:
    """Nothing runs and nothing can be placed while the retry waits: the run is not stuck yet."""
    never = "Experiment('never', 'true', resources=Resources(cpus=4096))"
    with run_under_test(tmp_path, never, shell("third", COUNT.format("third", 3, 7))) as run:
        assert run.start("--max_retries=3", "--retry_delay=0.3").wait(60) == 1
        assert [e.verdict for e in endings(run, "third")] == ["retry", "retry", "succeeded"]
        assert isinstance(run.job("never").state, Waiting)
        assert "no waiting experiment can be placed: it needs 4096 CPUs" in run.printed()
