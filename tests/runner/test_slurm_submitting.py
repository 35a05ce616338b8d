"""How attempts are handed in, with an sbatch that takes and refuses as the test says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sf_runner.backends.background_calls import BackgroundCalls
from sf_runner.backends.base import Ended, Launch, NotStarted, Remark, Report, Withdrawn
from sf_runner.backends.slurm import submitting
from sf_runner.backends.slurm.array import Array, StopOrder
from sf_runner.backends.slurm.batches import BatchPaths, list_batches
from sf_runner.backends.slurm.client import Limits, Refused, SlurmClient, SlurmDownError, Submitted
from sf_runner.backends.slurm.packing import SubmitSettings
from sf_runner.backends.slurm.script import JobShape, ScriptSettings
from sf_runner.backends.slurm.submitting import Submitter
from sf_runner.slots.placement import ANYWHERE

LIMIT = Refused(error="AssocMaxSubmitJobLimit", kind="limit")
DOWN = Refused(error="Socket timed out", kind="down")


class ScriptedClient(SlurmClient):
    """`answers`: what sbatch says next; when they are used up it takes arrays of up to `takes` tasks at a time."""

    def __init__(self) -> None:
        super().__init__({})
        self.answers: list[Any] = []
        self.found = Limits()
        self.down = 0
        self.takes = 10**6
        self.live = 0
        self.submitted: list[int] = []
        self.aborted = False

    def limits(self) -> Limits:
        if self.down:
            self.down -= 1
            raise SlurmDownError("Unable to contact slurm controller")
        return self.found

    def submit(self, batch: BatchPaths, after: str = "") -> Submitted | Refused:
        size = len(batch.tasks.read_text().splitlines()) - 1
        answer = self.answers.pop(0) if self.answers else None
        if answer is None and self.live + size > self.takes:
            answer = LIMIT
        if answer is None:
            self.live += size
            self.submitted.append(size)
            answer = Submitted(array_id=str(len(self.submitted)))
        elif answer.kind == "down":
            batch.answer.touch()  # by which `submit` knows that sbatch was started
        return answer

    def abort(self) -> None:
        self.aborted = True


class HeldCalls(BackgroundCalls):
    """No thread; an answer comes when the test collects it."""

    def __init__(self) -> None:
        self.open: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []

    def ask(self, call: Callable[[], Any], answer: Callable[[Any], None]) -> None:
        self.open.append((call, answer))

    def collect(self) -> None:
        asked, self.open = self.open, []
        for call, answer in asked:
            try:
                result = call()
            except Exception as exc:
                result = exc
            answer(result)

    def close(self, patience_s: float | None = None) -> bool:
        self.collect()
        return True


class Scene:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.client, self.calls = folder, ScriptedClient(), HeldCalls()
        self.now = 1000.0
        monkeypatch.setattr(submitting, "steady_s", lambda: self.now)
        script = ScriptSettings(job_name="s", folder="/w", command=["python", "task.py"])
        settings = SubmitSettings(script=script, shape_of=lambda _: JobShape(), run_id="r")
        self.arrays: list[Array] = []
        self.reports: list[Report] = []
        self.submitter = Submitter(
            folder, settings, self.client, self.calls, live=lambda: self.client.live, submitted=self.arrays.append,
            waits_for=lambda _, further: "",
        )  # fmt: skip

    def submit(self, *names: str) -> None:
        for name in names:
            folder = f"/t/{name}/job"
            self.submitter.submit(
                Launch(
                    job=name, attempt=1, argv=["true"], env={}, placement=ANYWHERE, log=f"{folder}/attempt_1.log",
                    exit_record=f"{folder}/exit.json",
                )
            )  # fmt: skip

    def go(self, seconds: float = 0.0, steps: int = 20) -> None:
        """The run loop for so long, as if Slurm answered at once."""
        self.now += seconds
        for _ in range(steps):
            self.calls.collect()
            self.reports += self.submitter.poll()

    def ask(self) -> None:
        """Until sbatch is at it."""
        self.reports += self.submitter.poll()
        self.calls.collect()  # the limits
        self.reports += self.submitter.poll()
        assert self.calls.open

    def told(self, kind: type[Report]) -> list[str]:
        return [report.job for report in self.reports if isinstance(report, kind)]

    @property
    def remarks(self) -> str:
        return "\n".join(report.text for report in self.reports if isinstance(report, Remark))


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(tmp_path, monkeypatch)


JOBS = [f"j{n}" for n in range(8)]
ORDER = StopOrder(level="terminate", grace_s=1.0, since=0.0)


def test_an_array_above_the_limit_is_cut_and_the_rest_waits_in_the_run(scene: Scene) -> None:
    scene.client.takes = 3
    scene.submit(*JOBS)
    scene.go()
    assert scene.client.submitted == [2]
    assert sorted(scene.told(Withdrawn)) == JOBS[2:]
    assert scene.submitter.settled()
    room = scene.submitter.room()
    assert room is not None
    assert (room.number, "AssocMaxSubmitJobLimit" in room.why) == (1, True)
    scene.submit(JOBS[2])
    scene.go()
    assert scene.client.submitted == [2, 1]
    assert len(list_batches(scene.folder)) == 2, "what was refused leaves nothing behind"
    assert scene.remarks.count("AssocMaxSubmitJobLimit") == 1


def test_while_nothing_is_taken_nothing_is_in_the_way_of_an_end(scene: Scene) -> None:
    scene.client.takes = 0
    scene.submit(*JOBS)
    scene.go()
    assert scene.told(Withdrawn) == JOBS[4:] + JOBS[2:4] + [JOBS[1], JOBS[0]]
    room = scene.submitter.room()
    assert room is not None
    assert room.number == 0
    assert scene.submitter.settled()


def test_limits_are_asked_for_again_until_the_controller_answers(scene: Scene) -> None:
    scene.client.found = Limits(max_array_size=1001, max_array_tasks=3)
    scene.client.down = 2
    scene.submit(*JOBS)
    scene.go()
    assert scene.client.submitted == []
    assert "Unable to contact slurm controller" in scene.remarks
    scene.go(5.0)
    scene.go(10.0)
    assert scene.client.submitted == [3, 3, 2]
    assert scene.reports == [report for report in scene.reports if isinstance(report, Remark)]


def test_a_limit_that_was_lowered_meanwhile_is_asked_for_again(scene: Scene) -> None:
    scene.submit("first")
    scene.go()
    scene.client.found = Limits(max_array_size=4)
    scene.client.answers = [Refused(error="Invalid job array specification", kind="size")]
    scene.submit(*JOBS)
    scene.go()
    assert scene.client.submitted == [1, 4, 4]


def test_a_cluster_that_does_not_keep_to_its_word_is_given_half(scene: Scene) -> None:
    scene.client.answers = [Refused(error="Invalid job array specification", kind="size")]
    scene.submit(*JOBS)
    scene.go()
    assert scene.client.submitted == [4, 4]


@pytest.mark.parametrize("leaving", [False, True])
def test_what_slurm_does_not_take_now_is_given_back_when_the_run_ends(scene: Scene, leaving: bool) -> None:
    scene.client.answers = [DOWN]
    scene.submit(*JOBS)
    scene.go()
    scene.submit("late")
    reports = scene.submitter.give_back(leaving=leaving)
    assert [type(report) for report in reports] == [Withdrawn] * 9
    assert scene.submitter.settled()
    (batch,) = list_batches(scene.folder)
    assert batch.is_abandoned(), "should it have been submitted after all, it runs nothing"
    scene.go(1000.0)
    assert scene.client.submitted == []


def test_what_slurm_takes_is_handed_in_when_the_runner_only_leaves(scene: Scene) -> None:
    scene.client.found = Limits(max_array_size=3)
    scene.submit(*JOBS)
    scene.ask()
    assert scene.submitter.give_back(leaving=True) == []
    scene.submitter.close(hand_in=True)
    assert scene.client.submitted == [3, 3, 2]


def test_an_array_that_was_taken_although_sbatch_failed_is_found_by_what_its_tasks_wrote(scene: Scene) -> None:
    scene.client.answers = [DOWN]
    scene.submit(*JOBS)
    scene.go()
    (batch,) = list_batches(scene.folder)
    batch.records(0).write_text('{"e": "begin", "t": 1.0, "n": 1, "array": "77", "node": "n1"}\n')
    assert scene.submitter.give_back(leaving=False) == []
    assert [array.array_id for array in scene.arrays] == ["77"]
    assert not batch.is_abandoned()


def test_while_sbatch_hangs_an_end_says_what_it_waits_for(scene: Scene) -> None:
    scene.submit(*JOBS)
    scene.ask()
    assert scene.submitter.give_back(leaving=False) == []
    scene.now += 2.0
    scene.reports += scene.submitter.poll()
    assert "sbatch has not answered for 2 s; it is waited for, 240 s at most" in scene.remarks
    assert "8 experiments" in scene.remarks
    for job in JOBS:
        assert scene.submitter.stop(job, ORDER)
    assert not scene.client.aborted
    assert scene.submitter.stop(JOBS[0], StopOrder(level="kill", grace_s=0.0, since=0.0))
    assert scene.client.aborted
    scene.client.answers = [DOWN]
    scene.go()
    assert scene.told(Ended) == JOBS
    assert scene.submitter.settled()


def test_one_is_cancelled_while_slurm_takes_nothing(scene: Scene) -> None:
    scene.client.answers = [DOWN]
    scene.submit(*JOBS)
    scene.go()
    assert scene.submitter.stop("j3", ORDER)
    scene.go(5.0)
    assert scene.told(Ended) == ["j3"]
    assert scene.client.submitted == [7]


def test_a_permanent_refusal_is_final_at_once_and_an_unknown_one_after_some_tries(scene: Scene) -> None:
    scene.client.answers = [Refused(error="Invalid qos specification (--slurm_qos)", kind="permanent")]
    scene.submit("a")
    scene.go()
    (report,) = [report for report in scene.reports if isinstance(report, NotStarted)]
    assert (report.permanent, report.error) == (True, "sbatch: Invalid qos specification (--slurm_qos)")
    scene.client.answers = [Refused(error="lua: no coffee", kind="unknown")] * 4
    scene.submit("b")
    for seconds in (0.0, 5.0, 10.0):
        scene.go(seconds)
        assert scene.told(NotStarted) == ["a"]
    scene.go(20.0)
    assert scene.told(NotStarted) == ["a", "b"]


def test_a_limit_that_may_be_one_on_each_job_is_final_once_nothing_could_make_room(scene: Scene) -> None:
    policy = Refused(error="Job violates accounting/QOS policy", kind="policy")
    scene.client.answers = [policy] * 9
    scene.submit("a", "b")
    scene.go()
    for _ in range(3):
        assert scene.told(NotStarted) == []
        room = scene.submitter.room()
        assert room is not None
        scene.now += room.wait_s
        scene.submit("a")
        scene.go()
    assert scene.told(NotStarted) == ["a"]


def test_a_folder_that_cannot_be_written_is_told(scene: Scene) -> None:
    scene.submit("a")
    (scene.folder / "0001").write_text("in the way")
    scene.go()
    (report,) = [report for report in scene.reports if isinstance(report, NotStarted)]
    assert not report.permanent
    assert f"cannot write {scene.folder}/0001" in report.error
