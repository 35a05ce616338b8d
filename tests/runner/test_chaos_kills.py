"""The runner is killed again and again, in every way: nothing is lost or repeated, live jobs are found again."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from sf_runner.linux.kernel import is_child, make_subreaper, started_up_s
from sf_runner.state import events as ev
from sf_runner.state.jobs import Running, Succeeded
from tests.runner.harness import RunUnderTest, shell, wait_gone, wait_until
from tests.runner.killing import WAYS, is_lost, kill, kills_both, many, not_yet

Make = Callable[..., RunUnderTest]

UNTIL_TOLD = "until test -e go; do sleep 0.02; done; echo {0} >> done"


def torture(run: RunUnderTest, ways: list[str], seed: int, *flags: str) -> int:
    """Kill the runner once in each of these ways, at random moments; start it again where it does not do so itself.
    How often it was killed before the run was over."""
    chance = random.Random(seed)
    kills = openings = 0
    process = run.start(*flags)
    for way in ways:
        wanted = len(run.read_events(ev.AttemptEnded)) + chance.randrange(1, 6)
        while not_yet(run, process.pid, openings) or len(run.read_events(ev.AttemptEnded)) < wanted:
            if process.poll() is not None:
                break
            time.sleep(chance.random() * 0.01)
        if process.poll() is not None:
            break
        openings = len(run.state.runners)
        kill(run, *WAYS[way])
        kills += 1
        if "guardian" in WAYS[way] or "group" in WAYS[way]:
            process.wait()
            process = run.start(*flags)
            if chance.random() < 0.2:  # while it starts
                time.sleep(chance.random() * 0.3)
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                process = run.start(*flags)
    assert run.finish() == 0, run.printed()
    return kills


def check(run: RunUnderTest, count: int, *, both: bool = False) -> None:
    """Each job has done its work exactly once. `both`: guardian and runner were killed together, so a job of which
    nobody could see the end may have done it again, and the journal says so."""
    done = Counter((run.folder / "done").read_text().split())
    assert done.keys() == {f"i={number}" for number in range(count)}
    assert run.state.count("Succeeded") == count
    tried = Counter(event.job for event in run.read_events(ev.AttemptStarted))  # type: ignore[attr-defined]
    lost = {event.job for event in run.read_events(ev.AttemptEnded) if is_lost(event)} if both else set()  # type: ignore[attr-defined]
    unseen = {run.state.jobs[job].argv[-1] for job in lost}
    assert {name for name, times in done.items() if times > 1} <= unseen
    assert {job for job, times in tried.items() if times > 1} <= lost
    assert run.left() == []


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_every_job_succeeds_exactly_once(make: Make, seed: int) -> None:
    ways = list(WAYS)
    random.Random(seed).shuffle(ways)
    run = make(many(80, "sleep 0.05; echo $1 >> done"))
    assert torture(run, ways[:4], seed, "--max_parallel=3") == 4
    check(run, 80, both=any(map(kills_both, ways[:4])))


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_twenty_kills_over_two_hundred_jobs(make: Make, way: str) -> None:
    run = make(many(200, "sleep 0.3; echo $1 >> done"))
    assert torture(run, [way] * 20, 7, "--max_parallel=4") == 20
    check(run, 200, both=kills_both(way))


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_twenty_kills_over_trivial_jobs(make: Make, way: str) -> None:
    run = make(many(3000, "echo $1 >> done"))
    assert torture(run, [way] * 20, 8, "--max_parallel=4") >= 5
    check(run, 3000, both=kills_both(way))


@pytest.mark.parametrize("way", ["guardian, then runner", "guardian", "runner"])
def test_live_jobs_are_found_again(make: Make, tmp_path: Path, way: str) -> None:
    run = make(*[shell(name, UNTIL_TOLD.format(name)) for name in "ab"])
    run.start("--max_parallel=2")
    for name in "ab":
        run.wait_for(name, Running)
    pids = [run.pid(name) for name in "ab"]
    kill(run, *WAYS[way])
    if way != "runner":
        run.start("--max_parallel=2")
    run.wait("a second opening", lambda state: len(state.runners) == 2, alive=way == "runner")
    assert [run.pid(name) for name in "ab"] == pids
    assert all(started_up_s(pid) is not None for pid in pids)
    (tmp_path / "go").touch()
    assert run.finish() == 0
    assert {*(tmp_path / "done").read_text().split()} == {"a", "b"}
    # How a stranger ended the kernel tells while its zombie is there, and since Linux 6.15 afterwards too.
    kernel = tuple(int(number) for number in os.uname().release.split(".")[:2])
    if not kills_both(way) or kernel >= (6, 15):
        assert [job.attempts for job in run.state.jobs.values()] == [1, 1]
        assert sorted((tmp_path / "done").read_text().split()) == ["a", "b"]


def good_and_bad(make: Make) -> RunUnderTest:
    """Two running jobs; one will succeed, the other exit with 3."""
    run = make(shell("good", UNTIL_TOLD.format("good")), shell("bad", UNTIL_TOLD.format("bad") + "; exit 3"))
    run.start("--max_parallel=2")
    for name in ("good", "bad"):
        run.wait_for(name, Running)
    return run


def test_jobs_that_end_while_nobody_waits_for_the_command_are_recorded(make: Make, tmp_path: Path) -> None:
    run = good_and_bad(make)
    pids = [run.pid(name) for name in ("good", "bad")]
    runner = run.runner
    kill(run, "guardian")
    (tmp_path / "go").touch()
    wait_gone([*pids, runner])  # the runner stays for the exit records, and no longer
    assert run.start("--max_parallel=2").wait(60) == 1
    run.read()
    assert isinstance(run.job("good").state, Succeeded)
    (failed,) = run.read_events(ev.AttemptEnded, "bad")
    assert (failed.verdict, failed.code) == ("failed", 3)  # type: ignore[attr-defined]
    assert sorted((tmp_path / "done").read_text().split()) == ["bad", "good"]


def test_jobs_whose_end_nobody_could_see_run_again(make: Make, tmp_path: Path) -> None:
    run = good_and_bad(make)
    pids = [run.pid(name) for name in ("good", "bad")]
    make_subreaper()
    try:
        kill(run, "guardian", "runner")
        (tmp_path / "go").touch()
        for pid in pids:  # as init does it: then not even the kernel knows how they ended
            wait_until("the job to be ours", lambda pid=pid: is_child(pid))
            os.waitpid(pid, 0)
    finally:
        make_subreaper(False)
    assert run.start("--max_parallel=2").wait(60) == 1
    run.read()
    assert isinstance(run.job("good").state, Succeeded)
    for name in ("good", "bad"):
        lost, last = run.read_events(ev.AttemptEnded, name)
        assert is_lost(lost)
        assert last.attempt == 2  # type: ignore[attr-defined]
    assert sorted((tmp_path / "done").read_text().split()) == ["bad", "bad", "good", "good"]
    assert run.left() == []


def test_jobs_that_a_guardian_inherited_are_recorded_after_a_detach(make: Make, tmp_path: Path) -> None:
    run = good_and_bad(make)
    kill(run, "runner")
    run.wait("a second opening", lambda state: len(state.runners) == 2, alive=True)
    os.kill(run.guardian, signal.SIGHUP)
    run.wait("the run to be handed back", lambda state: state.closed is not None)
    assert run.process is not None
    assert run.process.poll() is None, "the guardian is the parent of what the killed runner started"
    (tmp_path / "go").touch()
    run.process.wait(60)
    assert run.start("--max_parallel=2").wait(60) == 1
    run.read()
    assert [run.job(name).attempts for name in ("good", "bad")] == [1, 1]
    (failed,) = run.read_events(ev.AttemptEnded, "bad")
    assert failed.code == 3  # type: ignore[attr-defined]


def test_a_torn_last_line_is_dropped_and_told(make: Make, tmp_path: Path) -> None:
    run = make(shell("a", "echo a >> done"), shell("b", UNTIL_TOLD.format("b")))
    run.start("--max_parallel=1")
    run.wait_for("b", Running)
    kill(run, "guardian", "runner")
    size = run.paths.journal.stat().st_size
    with run.paths.journal.open("ab") as journal:
        journal.write(b'{"e":"started","t":17')
    process = run.start("--max_parallel=1")
    run.wait("b to be found again", lambda state: len(state.runners) == 2)
    (tmp_path / "go").touch()
    assert process.wait(60) == 0
    assert run.paths.journal.stat().st_size > size
    assert "dropped 21 bytes of an unfinished last line" in run.printed()
    assert (tmp_path / "done").read_text().split() == ["a", "b"]


def test_a_second_runner_is_refused_in_one_line(make: Make, tmp_path: Path) -> None:
    run = make(shell("a", UNTIL_TOLD.format("a")))
    run.start()
    run.wait_for("a", Running)
    first, first_output = run.process, run.printed()
    assert run.start().wait(60) == 3
    more = run.printed()[len(first_output) :].splitlines()
    (line,) = [text for text in more if "started    a_" not in text]  # which the first may say late
    assert line.startswith("error: run 'chaos' is already being run by pid ")
    assert f"by pid {first.pid} on " in line  # type: ignore[union-attr]
    (tmp_path / "go").touch()
    assert first is not None
    assert first.wait(60) == 0
    assert len(run.read().runners) == 1


def test_looking_at_a_run_is_not_mistaken_for_running_it(make: Make) -> None:
    from sf_runner.store.lock import is_held, run_lock

    run = make(shell("a", "exit 0"))
    assert run.start().wait(60) == 0
    assert not is_held(run.paths)
    with run_lock(run.paths):
        assert is_held(run.paths)
        assert is_held(run.paths)
    wait_until("it to be free", lambda: not is_held(run.paths))
