"""What records and Slurm's word together mean for an attempt."""

from __future__ import annotations

from typing import Any

import pytest

from sf_runner.backends.base import Ended, NotStarted, Report, Started
from sf_runner.backends.slurm.fold import Observation, Unit, advance, may_hold
from sf_runner.backends.slurm.states import STATES
from sf_runner.backends.slurm.task_records import TaskHistory

KILLED = {"version": 1, "attempt": 1, "exit_code": None, "signal": 15}
OK = {"version": 1, "attempt": 1, "exit_code": 0, "signal": None}


def history(*lines: dict[str, Any]) -> TaskHistory:
    found = TaskHistory()
    for line in lines:
        found.apply({"t": 10.0, **line})
    return found


def begin(n: int = 1) -> dict[str, Any]:
    return {"e": "begin", "n": n, "array": "7", "node": "n1"}


def start(attempt: int = 1) -> dict[str, Any]:
    return {"e": "start", "job": "a", "attempt": attempt, "pid": 5, "gpus": "1"}


def end(told: str = "", attempt: int = 1, record: Any = KILLED, **more: Any) -> dict[str, Any]:
    return {"e": "end", "job": "a", "attempt": attempt, "told": told, "record": record, **more}


def look(
    task: TaskHistory, slurm: str | None, *, settled: bool = True, stopping: bool = False, **more: Any
) -> tuple[list[Report], bool]:
    unit = Unit(job="a", attempt=1, stopping=stopping)
    what = STATES[slurm] if slurm else None
    seen = Observation(task=task, slurm=what, settled=settled, now=20.0, handle={"slurm": "7_0"}, **more)
    reports: list[Report] = []
    over = False
    while not over:
        some, over = advance(unit, seen)
        reports += some
        if not some:
            break
    return reports, over


def ended(reports: list[Report]) -> list[tuple[int, Any, str]]:
    return [(r.attempt, r.fate, r.cause.kind if r.cause else "") for r in reports if isinstance(r, Ended)]


def test_a_record_is_the_truth_whatever_slurm_says() -> None:
    for slurm in ("RUNNING", "FAILED", "COMPLETED", None):
        reports, over = look(history(begin(), start(), end(record=OK)), slurm, settled=False)
        assert over
        assert [type(report) for report in reports] == [Started, Ended]
        assert ended(reports) == [(1, None, "")]


def test_where_it_runs_is_told() -> None:
    (report,), _ = look(history(begin(), start()), "RUNNING")
    assert isinstance(report, Started)
    assert report.placement is not None
    assert report.placement.label == "n1, GPU 1"
    assert report.handle == {"slurm": "7_0", "pid": 5, "node": "n1"}


def test_several_attempts_may_have_passed_unseen() -> None:
    task = history(
        begin(), start(), end("limit"), begin(2), start(2), end("term", 2), begin(3), start(3), end("", 3, OK)
    )
    reports, over = look(task, None)
    assert over
    assert ended(reports) == [(1, "requeued", "timeout"), (2, "requeued", "preempted"), (3, None, "")]
    assert sum(isinstance(report, Started) for report in reports) == 3


def test_told_to_end_means_nothing_until_slurm_has_decided() -> None:
    task = history(begin(), start(), end("term"))
    assert look(task, "RUNNING")[1] is False
    assert look(task, "CANCELLED", settled=False)[1] is False
    assert ended(look(task, "PENDING")[0]) == [(1, "requeued", "preempted")]
    assert ended(look(task, "CANCELLED")[0]) == [(1, "cancelled", "cancelled")]
    assert ended(look(task, "PREEMPTED")[0]) == [(1, "requeue", "preempted")]
    assert ended(look(task, "TIMEOUT")[0]) == [(1, "failed", "timeout")]
    assert ended(look(task, "FAILED")[0]) == [(1, "requeue", "lost")]


@pytest.mark.parametrize(
    ("error", "fate"), [("", "requeue"), ("disabled by the administrator", "requeue"), ("--slurm_max...", "failed")]
)
def test_its_time_was_over_and_it_could_not_queue_again(error: str, fate: str) -> None:
    task = history(begin(), start(), end("limit"), {"e": "requeue", "error": error})
    assert ended(look(task, "COMPLETED")[0]) == [(1, fate, "timeout")]


@pytest.mark.parametrize(
    ("slurm", "expected"),
    [
        ("NODE_FAIL", ("requeue", "node_failed")),
        ("OUT_OF_MEMORY", ("failed", "host_oom")),
        ("TIMEOUT", ("failed", "timeout")),
        ("CANCELLED", ("cancelled", "cancelled")),
        ("FAILED", ("failed", "spawn")),
        ("VANISHED", ("requeue", "lost")),
    ],
)
def test_without_any_record_slurm_has_the_word(slurm: str, expected: tuple[str, str]) -> None:
    task = history(begin(), start())
    assert look(task, slurm, settled=False)[1] is False
    reports, over = look(task, slurm)
    assert over
    assert ended(reports) == [(1, *expected)]


def test_a_node_that_failed_gave_its_task_back() -> None:
    reports, over = look(history(begin(), start()), "PENDING")
    assert not over
    assert ended(reports) == [(1, "requeued", "node_failed")]
    assert look(TaskHistory(), "PENDING") == ([], False), "it has only been waiting"


def test_what_the_runner_ends_is_never_queued_again() -> None:
    for told in ("limit", "term", "order"):
        reports, over = look(history(begin(), start(), end(told)), "PENDING", stopping=True)
        assert over
        assert [fate for _, fate, _ in ended(reports)] == [None]
    assert ended(look(TaskHistory(), "CANCELLED", stopping=True)[0]) == [(1, None, "")]


def test_an_exit_record_without_its_line_counts() -> None:
    reports, over = look(history(begin(), start()), "FAILED", record=OK)
    assert over
    assert ended(reports) == [(1, None, "")]


def test_a_script_that_failed_is_quoted() -> None:
    (report,), over = look(TaskHistory(), "COMPLETED", words="module: command not found")
    assert over
    assert isinstance(report, Ended)
    assert (report.fate, report.cause is not None and "module: command not found" in report.cause.summary) == (
        "failed",
        True,
    )


@pytest.mark.parametrize("slurm", ["FAILED", "COMPLETED"])
def test_a_task_that_could_not_be_started_again_is_submitted_anew(slurm: str) -> None:
    task = history(begin(), start(), end("limit"), {"e": "requeue", "error": ""})
    unit = Unit(job="a", attempt=2)
    seen = Observation(task=task, slurm=STATES[slurm], settled=True, now=20.0, handle={}, words="Slurm said something")
    reports, over = advance(unit, seen)
    assert over
    assert ended(reports) == [(2, "requeue", "lost")]


def test_a_wrapper_that_crashes_is_a_failure_however_often_the_task_was_queued_again() -> None:
    again = (start(), end("limit"), {"e": "requeue", "error": ""}, begin(2))
    for lines, attempt in (((begin(),), 1), ((begin(), *again), 2)):
        unit = Unit(job="a", attempt=attempt)
        seen = Observation(
            task=history(*lines), slurm=STATES["FAILED"], settled=True, now=20.0, handle={}, words="MemoryError"
        )
        reports, over = advance(unit, seen)
        assert over
        assert ended(reports) == [(attempt, "failed", "spawn")]
        assert "its wrapper failed: MemoryError" in reports[0].cause.summary  # type: ignore[union-attr]


def test_what_cannot_be_started_is_told_so() -> None:
    (report,), over = look(history(begin(), end("error", record=None, error="no such program")), "RUNNING")
    assert over
    assert report == NotStarted(job="a", attempt=1, t=10.0, error="no such program", permanent=True)


def test_which_task_an_attempt_can_be_in() -> None:
    def held(attempt: int, *lines: dict[str, Any]) -> bool:
        return may_hold(history(*lines).jobs.get("a"), 1, attempt)

    assert held(1)
    assert not held(2), "its first attempt has not even begun"
    assert held(1, begin(), start())
    assert held(2, begin(), start()), "Slurm may have queued it again"
    assert held(2, begin(), start(), end("limit"))
    assert not held(2, begin(), start(), end("")), "the next attempt was submitted anew, or never"
    assert not held(3, begin(), start(), end("limit"))
