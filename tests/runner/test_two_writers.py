"""A journal that two runners wrote at the same time is read as far as it makes sense, told, and opens again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sf_runner.basics.paths import RunPaths
from sf_runner.state import events as ev
from sf_runner.state.jobs import Failed, Succeeded
from sf_runner.store.follower import JournalFollower
from sf_runner.store.journal import Journal
from tests.runner.builders import CAUSE, opened, opening, simple_plan
from tests.runner.harness import ROOT, RunUnderTest, shell

Make = Callable[..., RunUnderTest]


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    paths = RunPaths(train_dir=tmp_path, run_name="study")
    paths.runner_dir.mkdir(parents=True)
    return paths


def two_runners() -> tuple[list[ev.Event], list[ev.Event]]:
    """What two runners of the same four experiments write, each as if it were alone. The second fails the third."""
    written = []
    for runner, bad in (("a", ""), ("b", "2")):
        plan, journal = simple_plan(4), JournalFollower(Path("nowhere"))
        state = journal.state
        events: list[ev.Event] = [ev.JournalCreated(t=1.0, version=1, run_id=runner, run_name="study")]
        state.apply(events[0])
        events += opening(plan, state, t=2.0, pid=10)
        for job in plan.jobs:
            events.append(ev.AttemptSubmitted(t=3.0, job=job.job_id, attempt=1, placement={}))
            events.append(ev.AttemptStarted(t=3.0, job=job.job_id, attempt=1, handle={"pid": ord(runner)}))
            fails = bool(bad) and job.job_id.endswith(bad)
            verdict: Any = "failed" if fails else "succeeded"
            cause = CAUSE if fails else None
            events.append(
                ev.AttemptEnded(t=4.0, job=job.job_id, attempt=1, verdict=verdict, cause=cause, duration_s=1.0)
            )
        written.append([*events, ev.RunClosed(t=5.0, exit_code=0)])
    return written[0], written[1]


def write(path: Path, events: list[ev.Event]) -> None:
    path.write_text("".join(ev.encode(event) + "\n" for event in events))


def mixed(kind: str) -> list[ev.Event]:
    first, second = two_runners()
    if kind == "in step":
        return [event for pair in zip(first, second, strict=True) for event in pair]
    if kind == "second later":  # it found the jobs that the first had planned
        late = [event for event in second if not isinstance(event, ev.JournalCreated | ev.JobsPlanned)]
        return [
            *first[:6],
            *(event for pair in zip(first[6:], late, strict=False) for event in pair),
            *late[len(first) - 6 :],
        ]
    return [*first[:8], *second[:12], *first[8:], *second[12:]]


@pytest.mark.parametrize("kind", ["in step", "second later", "in blocks"])
def test_a_journal_of_two_runners_is_read_and_told(paths: RunPaths, kind: str) -> None:
    write(paths.journal, mixed(kind))
    found = JournalFollower(paths.journal)
    found.catch_up()
    assert [type(record.state) for record in found.state.jobs.values()] == [Succeeded] * 4
    (note,) = [note for note in found.state.notes if note.level == "warning"]
    assert note.text.startswith("two runners wrote the journal at the same time: ")
    assert f"of {paths.journal}, the first is line " in note.text
    # It opens again, and goes on.
    journal, state = Journal.open(paths.journal, "study")
    assert journal.mended == note
    again = opened(9.0)
    journal.append([again])
    state.apply(again)
    job = next(iter(state.jobs))
    journal.append([ev.JobsChanged(t=9.0, jobs=[{"id": job, "planned": False}])])
    journal.close()
    found.catch_up()
    assert found.state.total == 3
    once_more = JournalFollower(paths.journal)
    once_more.catch_up()
    assert once_more.state.total == 3
    assert once_more.state.counts == found.state.counts


def test_what_is_mixed_up_while_somebody_looks(paths: RunPaths) -> None:
    events = mixed("second later")
    write(paths.journal, events[:8])
    found = JournalFollower(paths.journal)
    found.poll()
    write(paths.journal, events)
    assert found.poll() == ([], True)
    assert found.state.count("Succeeded") == 4


def test_lines_written_over_each_other_are_left_out(paths: RunPaths) -> None:
    write(paths.journal, mixed("in step"))
    lines = paths.journal.read_bytes().splitlines(keepends=True)
    lines[12] = lines[12][:20] + lines[13][5:]
    paths.journal.write_bytes(b"".join(lines))
    found = JournalFollower(paths.journal)
    found.catch_up()
    assert found.state.total == 4


def without_a_submission(events: list[ev.Event]) -> list[ev.Event]:
    return [event for event in events if not (isinstance(event, ev.AttemptSubmitted) and event.job.endswith("1"))]


def without_a_request(events: list[ev.Event]) -> list[ev.Event]:
    job = next(event.job for event in events if isinstance(event, ev.AttemptSubmitted))
    return [*events, ev.AttemptSubmitted(t=9.0, job=job, attempt=2, placement={})]


def of_another_run(events: list[ev.Event]) -> list[ev.Event]:
    return [*events[:-1], ev.JobCancelled(t=6.0, job="who")]


@pytest.mark.parametrize("change", [without_a_submission, without_a_request, of_another_run])
def test_a_line_that_was_removed_is_no_second_runner(paths: RunPaths, change: Callable[..., list[ev.Event]]) -> None:
    first, _ = two_runners()
    write(paths.journal, change([*first[:4], opened(2.5), *first[4:]]))
    with pytest.raises(ev.JournalError, match="contradicts the lines before it"):
        JournalFollower(paths.journal).catch_up()


def test_a_line_of_a_newer_version_is_not_left_out(paths: RunPaths) -> None:
    write(paths.journal, mixed("in step"))
    with paths.journal.open("a") as file:
        file.write('{"e":"from_the_future","t":1}\n')
    with pytest.raises(ev.JournalError, match=r"contradicts|planned twice|newer"):
        JournalFollower(paths.journal).catch_up()


def test_the_next_runner_tells_and_repeats_nothing(make: Make, tmp_path: Path) -> None:
    run = make(*(shell(f"job{number}", f"echo {number} >> ran") for number in range(3)))
    assert run.start().wait(60) == 0
    lines = run.paths.journal.read_text().splitlines(keepends=True)
    opened_line = next(line for line in lines if '"run_opened"' in line)
    doubled = [line for line in lines if '"submitted"' in line or '"ended"' in line]
    run.paths.journal.write_text("".join([*lines[:-1], opened_line, *doubled, lines[-1]]))
    run._offset = run.paths.journal.stat().st_size  # it has been read
    assert run.start().wait(60) == 0
    assert "two runners wrote the journal at the same time: " in run.printed()
    assert sorted((tmp_path / "ran").read_text().split()) == ["0", "1", "2"]
    status = subprocess.run(
        [sys.executable, "-m", "sf_runner.status", "chaos", f"--train_dir={run.paths.train_dir}"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "3 of 3 succeeded" in status.stdout
    assert "warning: two runners wrote the journal" in status.stdout


def test_a_success_counts_whatever_else_was_said(paths: RunPaths) -> None:
    first, second = two_runners()
    ends = [event for event in first if isinstance(event, ev.AttemptEnded)]
    write(paths.journal, [*second, opened(6.0), *ends])
    found = JournalFollower(paths.journal)
    found.catch_up()
    states = [type(record.state) for record in found.state.jobs.values()]
    assert Failed not in states
    assert states == [Succeeded] * 4
