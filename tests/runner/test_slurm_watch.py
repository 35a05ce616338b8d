"""Slurm's word and a task's records meet in any order: an answer may be older than what is read beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sf_runner.backends.background_calls import BackgroundCalls
from sf_runner.backends.base import Ended, Remark, Report, Started
from sf_runner.backends.slurm.answers import Entry, Listing, Queue
from sf_runner.backends.slurm.array import Array, StopOrder, make_array
from sf_runner.backends.slurm.batches import BatchHeader, BatchPaths, TaskJob
from sf_runner.backends.slurm.client import Sighting, SlurmClient, SlurmDownError
from sf_runner.backends.slurm.doubles import doubles, leftovers
from sf_runner.backends.slurm.fold import Unit
from sf_runner.backends.slurm.task_records import RecordWriter
from sf_runner.backends.slurm.watch import Watch
from sf_runner.basics.clock import steady_s

OK = {"version": 1, "attempt": 1, "exit_code": 0, "signal": None}
KILLED = {"version": 1, "attempt": 1, "exit_code": 143, "signal": None}


class HeldClient(SlurmClient):
    """Its answers are given by the test, when the test says so."""

    def __init__(self) -> None:
        super().__init__({})
        self.released: list[str] = []
        self.deaf = 0
        """How many further calls get no answer."""
        self.sighting = Sighting(listing=None, accounting=Listing(), sure=True)
        self.cancelled: list[str] = []

    def look_up(self, cluster: str, array: str, indices: Any) -> Sighting:
        return self.sighting

    def cancel(self, cluster: str, ids: Any, *, queued_only: bool = False) -> None:
        self.cancelled += ids

    def release(self, cluster: str, ids: Any) -> None:
        self.released += ids
        if self.deaf:
            self.deaf -= 1
            raise SlurmDownError("busy")


class HeldDesk(BackgroundCalls):
    """No thread: questions wait until the test has them answered."""

    def __init__(self) -> None:
        self.asked: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []

    def ask(self, call: Callable[[], Any], answer: Callable[[Any], None]) -> None:
        self.asked.append((call, answer))

    def collect(self) -> None:
        """Nothing arrives by itself."""


class Scene:
    """One task with one experiment."""

    def __init__(self, folder: Path) -> None:
        self.client, self.calls = HeldClient(), HeldDesk()
        self.watch = Watch(self.client, self.calls, poll_s=1.0)
        self.now = steady_s()
        """Runs ahead of the clock: whatever has to wait for its time is due at the next `poll`."""
        batch = folder / "0001"
        (batch / "tasks").mkdir(parents=True)
        job = TaskJob(job="a", attempt=1, argv=["true"], env={}, folder=str(folder))
        self.array: Array = make_array(BatchPaths(root=batch), BatchHeader(run_id="r", num_tasks=1), [[job]])
        self.array.array_id = "7"
        self.task = self.array.tasks[0]
        self.task.units["a"] = Unit(job="a", attempt=1)
        self.records = RecordWriter(self.array.paths.records(0))
        self.watch.add(self.array)

    def write(self, *lines: dict[str, Any]) -> None:
        for line in lines:
            self.records.write(t=self.now, **line)

    def poll(self, after_s: float = 100.0) -> list[Report]:
        self.now += after_s
        return self.watch.poll(self.now)

    def answer(self, state: str | None, reason: str = "", took_s: float = 0.0) -> None:
        """Slurm's answer to the squeue that was asked for."""
        (question,) = [item for item in self.calls.asked if item[1] == self.watch._answered]
        self.calls.asked.remove(question)
        _, take = question
        arrays = {("", "7"): Listing(tasks={0: Entry(state=state, reason=reason)})} if state else {}
        if state:
            self.controller_shows(state, reason)
        take(Queue(asked_at=self.now, took_s=took_s, arrays=arrays))

    def look(self, state: str | None, reason: str = "") -> list[Report]:
        """A question, its answer, and what follows from it."""
        reports = self.poll()
        self.answer(state, reason)
        self.answer_calls()
        return [*reports, *self.poll(0.0)]

    def controller_shows(self, state: str, reason: str = "", restarts: int = 9) -> None:
        """scontrol's word."""
        listing = Listing(tasks={0: Entry(state=state, reason=reason, restarts=restarts)})
        self.client.sighting = Sighting(listing=listing, accounting=Listing(), sure=True)

    def answer_calls(self) -> None:
        """All that was asked for beside the state of the queue."""
        for call, take in [item for item in self.calls.asked if item[1] != self.watch._answered]:
            self.calls.asked.remove((call, take))
            try:
                result = call()
            except SlurmDownError as exc:
                result = exc
            take(result)


def begin(n: int = 1) -> dict[str, Any]:
    return {"e": "begin", "n": n, "array": "7", "node": "n1"}


def start(attempt: int = 1) -> dict[str, Any]:
    return {"e": "start", "job": "a", "attempt": attempt, "pid": 5, "gpus": None}


def end(told: str = "", attempt: int = 1, record: Any = OK) -> dict[str, Any]:
    return {"e": "end", "job": "a", "attempt": attempt, "told": told, "record": record}


def ended(reports: list[Report]) -> list[tuple[int, Any]]:
    return [(report.attempt, report.fate) for report in reports if isinstance(report, Ended)]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_task_that_started_while_slurm_was_asked_was_not_queued_again(scene: Scene) -> None:
    scene.poll()
    scene.write(begin(), start())
    scene.answer("PENDING")
    reports = scene.poll(0.0)
    assert [type(report) for report in reports] == [Started], "Slurm's word is older than the record"
    assert scene.look("RUNNING") == []
    scene.write(end())
    assert ended(scene.poll()) == [(1, None)]


def test_what_is_pending_after_its_start_was_read_was_queued_again(scene: Scene) -> None:
    scene.poll()
    scene.write(begin(), start())
    scene.answer("PENDING")
    assert ended(scene.poll(0.0)) == []
    assert ended(scene.look("PENDING")) == [(1, "requeued")]


def test_a_task_that_ended_while_slurm_was_asked_may_not_have_been_queued_again(scene: Scene) -> None:
    scene.poll()
    scene.write(begin(), start(), end("limit", record=KILLED), {"e": "requeue", "error": "--slurm_max_requeues=0"})
    scene.answer("PENDING")
    assert ended(scene.poll(0.0)) == []
    assert ended([*scene.look("COMPLETED"), *scene.poll(10.0)]) == [(1, "failed")]


def test_a_task_that_was_over_and_started_again_is_not_over(scene: Scene) -> None:
    scene.write(begin(), start())
    scene.look("RUNNING")
    scene.poll()
    scene.answer("NODE_FAIL")
    scene.write(begin(2), start(2))
    assert ended(scene.poll(0.0)) == [(1, "requeued")]
    assert ended(scene.look("RUNNING")) == []
    scene.write(end("", 2))
    assert ended(scene.poll()) == [(2, None)]


def test_the_hold_of_what_was_queued_again_is_ended_once_for_each_time(scene: Scene) -> None:
    for attempt in (1, 2):
        scene.write(begin(attempt), start(attempt))
        scene.look("RUNNING")
        scene.write(end("limit", attempt, KILLED))
        for _ in range(3):
            scene.look("PENDING", "BeginTime")
            scene.answer_calls()
        assert scene.client.released == ["7_0"] * attempt


def test_a_hold_that_could_not_be_ended_is_tried_again(scene: Scene) -> None:
    scene.write(begin(), start())
    scene.look("RUNNING")
    scene.write(end("limit", record=KILLED))
    scene.client.deaf = 1
    for _ in range(5):
        scene.look("PENDING", "BeginTime")
        scene.answer_calls()
    assert scene.client.released == ["7_0"] * 2


def test_one_slow_answer_changes_nothing_and_slow_ones_a_minute_at_most(scene: Scene) -> None:
    scene.poll(0.0)
    scene.answer("PENDING", took_s=50.0)
    scene.poll(20.0)
    assert scene.watch.num_calls == 2
    scene.answer("PENDING", took_s=50.0)
    scene.poll(20.0)
    assert scene.watch.num_calls == 2
    scene.poll(1000.0)
    assert scene.watch.num_calls == 3


def turn(scene: Scene, state: str | None = None) -> list[Report]:
    """One round of questions and answers, some time later."""
    reports = scene.poll()
    if scene.task.units:
        scene.answer(state)
    scene.answer_calls()
    scene.answer_calls()
    return reports


def until_ended(scene: Scene) -> list[tuple[int, Any]]:
    for _ in range(10):
        if found := ended(turn(scene)):
            return found
    return []


def test_what_squeue_does_not_show_is_not_over_while_its_wrapper_lives(scene: Scene) -> None:
    scene.write({**begin(), "beat_s": 15.0}, start())
    for number in range(20):
        os.utime(scene.array.paths.records(0), ns=(number, number))
        assert ended(turn(scene)) == []
    assert not scene.client.cancelled
    scene.write(end())
    assert ended(scene.poll()) == [(1, None)]


def test_what_is_quiet_and_unknown_everywhere_is_run_again_and_ended_for_sure(scene: Scene) -> None:
    scene.write({**begin(), "beat_s": 15.0}, start())
    assert until_ended(scene) == [(1, "requeue")]
    assert scene.client.cancelled == ["7_0"]
    assert json.loads(scene.array.paths.orders(0).read_text()) == {"a": {"level": "kill", "grace_s": 0.0}}


def test_what_the_controller_shows_is_not_over_whatever_squeue_says(scene: Scene) -> None:
    scene.controller_shows("PENDING")
    reports = [report for _ in range(6) for report in turn(scene)]
    assert [report.text for report in reports if isinstance(report, Remark)] == [
        "squeue does not show job 7_0, which Slurm has; scontrol is asked about such jobs"
    ]
    assert ended(reports) == []
    assert scene.watch.certain()


def test_what_never_began_and_is_unknown_is_closed_before_it_is_run_again(scene: Scene) -> None:
    assert until_ended(scene) == [(1, "requeue")]
    assert scene.array.paths.attempt_claimant("r", "a", 1)["by"] == "runner"


def test_what_has_just_begun_is_not_run_again(scene: Scene) -> None:
    scene.array.paths.claim_attempt("r", "a", 1, {"array": "7", "task": 0, "batch": scene.array.paths.name})
    assert [report for _ in range(6) for report in ended(turn(scene))] == []


def test_arrays_that_slurm_took_twice_or_late_are_ended(scene: Scene, tmp_path: Path) -> None:
    script = str(scene.array.paths.script)
    late = str(tmp_path / "0009" / "script.sh")
    scene.client.given_up.add(late)
    pending, over = Listing(tasks={0: Entry(state="PENDING")}), Listing(tasks={0: Entry(state="CANCELLED")})
    arrays = {("", "7"): pending, ("", "8"): pending, ("c", "9"): pending, ("", "10"): over, ("", "11"): pending}
    marks = {
        script: frozenset({("", "7"), ("", "8"), ("", "10")}),
        late: frozenset({("c", "9")}),
        "/mine.sh": frozenset({("", "11")}),
    }
    queue = Queue(asked_at=0.0, took_s=0.0, arrays=arrays, marks=marks)
    assert doubles(queue, [scene.array], scene.client.given_up) == {"": ["8"], "c": ["9"]}


def test_an_old_answer_of_squeue_makes_nothing_run_again(scene: Scene) -> None:
    """A site may keep its answers for a while."""
    scene.write({**begin(), "beat_s": 15.0}, start())
    for state in ("PENDING", "NODE_FAIL"):
        scene.poll()
        scene.answer(state)
        scene.controller_shows("RUNNING")
        scene.answer_calls()
        assert ended(scene.poll(10.0)) == []
    scene.poll()
    scene.answer("PENDING")
    scene.controller_shows("PENDING", restarts=0)
    scene.answer_calls()
    assert ended(scene.poll(10.0)) == [], "it was not queued again since it began"


def test_the_controllers_answer_may_be_older_than_a_record_too(scene: Scene) -> None:
    scene.poll()
    scene.answer(None)
    scene.controller_shows("PENDING", restarts=0)
    scene.write({**begin(), "beat_s": 15.0}, start())
    assert ended(scene.poll(1.0)) == []
    scene.answer_calls()
    assert ended(scene.poll(1.0)) == []
    scene.answer("PENDING")
    assert ended(scene.poll(1.0)) == []


def test_what_is_queued_again_although_its_experiments_are_over_is_ended(scene: Scene) -> None:
    scene.look("RUNNING")
    scene.write(begin(), start(), end())
    assert ended(scene.poll()) == [(1, None)]
    listing = Listing(tasks={0: Entry(state="PENDING"), 5: Entry(state="PENDING")})
    assert leftovers(Queue(asked_at=0.0, took_s=0.0, arrays={("", "7"): listing}), [scene.array]) == {"": ["7_[0]"]}


def test_the_hold_of_what_was_taken_back_before_its_wrapper_began_is_ended_too(scene: Scene) -> None:
    for _ in range(2):
        scene.look("PENDING", "BeginTime")
    assert scene.client.released == [], "perhaps it is not to begin before"
    scene.array.paths.output(0).write_text("slurmstepd: error: *** JOB 7 ON n1 CANCELLED ... DUE TO PREEMPTION ***")
    for _ in range(3):
        scene.look("PENDING", "BeginTime")
    assert scene.client.released == ["7_0"]


@pytest.mark.parametrize("level", ["terminate", "kill"])
@pytest.mark.parametrize("claimed", [False, True])
def test_what_queues_while_slurm_is_down_is_kept_from_starting(scene: Scene, level: Any, claimed: bool) -> None:
    scene.look("PENDING")
    scene.poll()
    (question,) = [item for item in scene.calls.asked if item[1] == scene.watch._answered]
    scene.calls.asked.remove(question)
    question[1](SlurmDownError("Unable to contact slurm controller"))
    mine = {"array": "7", "task": 0, "batch": "0001"}
    if claimed:
        scene.array.paths.claim_attempt("r", "a", 1, mine)
    scene.watch.stop("a", StopOrder(level=level, grace_s=30.0, since=scene.now))
    reports = scene.poll(10.0)
    if level == "terminate":
        assert ended(reports) == [], "Slurm may answer again in time"
        reports = scene.poll(50.0)
    assert ended(reports) == ([] if claimed else [(1, None)])
    assert scene.array.paths.orders(0).exists(), "whoever has started reads it"
    assert scene.array.paths.attempt_claimant("r", "a", 1)["by" if not claimed else "array"] == (
        "7" if claimed else "runner"
    )


def test_another_array_with_the_same_number_is_not_taken_for_it(scene: Scene) -> None:
    """A controller that has lost its memory counts from one again."""
    scene.write({**begin(), "beat_s": 15.0}, start())
    other = Listing(tasks={0: Entry(state="COMPLETED", restarts=9)}, comment="sf_runner /runs/0009")
    scene.client.sighting = Sighting(listing=other, accounting=Listing(), sure=True)
    for number in range(8):
        os.utime(scene.array.paths.records(0), ns=(number, number))
        scene.poll()
        question = next(item for item in scene.calls.asked if item[1] == scene.watch._answered)
        scene.calls.asked.remove(question)
        scene.watch._answered(Queue(asked_at=scene.now, took_s=0.0, arrays={("", "7"): other}))
        scene.answer_calls()
        assert ended(scene.poll(10.0)) == []


def test_accounting_tells_how_what_nobody_knows_any_more_has_ended(scene: Scene) -> None:
    cancelled = Listing(rest=Entry(state="CANCELLED by 0"))
    scene.client.sighting = Sighting(listing=None, accounting=cancelled, sure=True)
    assert until_ended(scene) == [(1, "cancelled")]
