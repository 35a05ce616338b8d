"""The plain output: one line for each thing that happens."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sf_runner.engine.screen import RunView, Screen
from sf_runner.slots.devices import GpuSnapshot
from sf_runner.state import events as ev
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import FailureCause
from sf_runner.tui.plain import PlainScreen, SilentScreen
from tests.runner.builders import CAUSE, OOM, fresh, simple_plan
from tests.runner.golden import assert_golden


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class Shown:
    """A plain screen, and the run it shows."""

    def __init__(self, train_dir: Path, count: int = 3, out: io.TextIOBase | None = None, **changes: object) -> None:
        self.plan = simple_plan(count, train_dir)
        self.state: RunState = fresh(self.plan, **changes)
        self.jobs = list(self.state.jobs)
        self.out = io.StringIO() if out is None else out
        self.screen = PlainScreen(self.plan.paths, every_s=30.0, out=self.out)  # type: ignore[arg-type]
        self.now = 0.0

    def view(self, hold: str = "", trouble: str = "") -> RunView:
        return RunView(now=self.now, state=self.state, gpus=GpuSnapshot(), hold=hold, trouble=trouble)

    def begin(self) -> None:
        self.screen.start(self.view())

    def happen(self, *events: ev.Event, after: float = 0.0, **view: str) -> None:
        """Everything in one step of the run loop: folded first, shown then."""
        self.now += after
        self.state.apply_all(events)
        self.screen.update(events, self.view(**view))

    def submit(self, job: str, attempt: int = 1, **placement: object) -> ev.Event:
        return ev.AttemptSubmitted(t=self.now, job=job, attempt=attempt, placement=placement)

    def start(self, job: str, attempt: int = 1) -> ev.Event:
        log = self.plan.paths.job(job).attempt_log(attempt)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        return ev.AttemptStarted(t=self.now, job=job, attempt=attempt, handle={})

    def end(self, job: str, verdict: str, attempt: int = 1, **more: object) -> ev.Event:
        settings: dict[str, object] = {"duration_s": 65.0, **more}
        return ev.AttemptEnded(t=self.now, job=job, attempt=attempt, verdict=verdict, **settings)  # type: ignore[arg-type]

    @property
    def lines(self) -> list[str]:
        assert isinstance(self.out, io.StringIO)
        return [line.partition(" ")[2] for line in self.out.getvalue().splitlines()]


def test_a_run_from_beginning_to_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    run = Shown(Path("train_dir"), 4)
    a, b, c, d = run.jobs
    run.begin()
    run.happen(ev.Note(t=0.0, text="no GPU is used", level="info"))
    run.happen(run.submit(a, gpu_indices=[2], cores=[0, 1]), run.submit(b), after=1.0)
    run.happen(run.start(a), run.start(b), after=1.0)
    run.happen(run.end(a, "succeeded", leftovers=2), run.submit(c), run.start(c), after=65.0)
    run.happen(run.end(b, "retry", cause=CAUSE, not_before=run.now + 40.0), after=30.0)
    run.happen(ev.StopRequested(t=run.now, job=c, attempt=1, reason="timeout"), after=1.0)
    run.happen(
        run.end(c, "failed", cause=FailureCause(kind="timeout", summary="ran longer", fingerprint="f")), after=1.0
    )
    run.happen(run.submit(b, 2), run.start(b, 2), after=9.0, hold="all GPU slots are taken")
    run.happen(ev.PaceChanged(t=run.now, paused=True), ev.PaceChanged(t=run.now, max_parallel=1), after=1.0)
    run.happen(ev.PaceChanged(t=run.now, paused=False), hold="all GPU slots are taken")
    run.happen(ev.JobCancelled(t=run.now, job=d), after=1.0)
    run.happen(ev.StopRequested(t=run.now, job=b, attempt=2, reason="cancelled"))
    run.happen(run.end(b, "cancelled", 2), after=2.0)
    run.happen(ev.JobRequeued(t=run.now, job=b), run.submit(b, 3), run.start(b, 3), after=1.0)
    run.happen(ev.RunDraining(t=run.now, reason="interrupted"), after=1.0, hold="nothing is started any more")
    run.happen(ev.RunDraining(t=run.now, reason="terminated"), after=1.0)
    run.happen(run.end(b, "requeue", 3), after=1.0, trouble="cannot write the journal: No space left on device")
    run.happen(after=1.0)
    run.happen(ev.Note(t=run.now, job=a, text="its log is gone", level="error"), after=31.0)
    run.screen.stop(run.view())
    assert isinstance(run.out, io.StringIO)
    assert_golden("plain.txt", run.out.getvalue())


def test_a_restart_says_how_far_the_run_is(tmp_path: Path) -> None:
    run = Shown(tmp_path)
    run.happen(run.submit(run.jobs[0]), run.start(run.jobs[0]), run.end(run.jobs[0], "succeeded"))
    screen = PlainScreen(run.plan.paths, out=run.out)  # type: ignore[arg-type]
    screen.start(run.view())
    assert run.lines[-1] == "going on: 1 of 3 succeeded, 0 running, 2 waiting"
    run.screen = screen
    run.happen(run.submit(run.jobs[1]), run.start(run.jobs[1]), run.end(run.jobs[1], "succeeded"))
    assert run.lines[-2:] == [f"[1/3] started    {run.jobs[1]}", f"[2/3] succeeded  {run.jobs[1]} in 1 min 5 s"]


def test_an_attempt_found_again_is_shown_without_its_slot(tmp_path: Path) -> None:
    run = Shown(tmp_path)
    run.state.apply(run.submit(run.jobs[0], cores=[1]))
    run.happen(run.start(run.jobs[0]))
    assert run.lines == [f"[0/3] started    {run.jobs[0]}"]


def test_short_jobs_do_not_flood_the_output_and_failures_always_show(tmp_path: Path) -> None:
    run = Shown(tmp_path, 200)
    run.now = 10.0
    run.begin()
    events: list[ev.Event] = []
    for number, job in enumerate(run.jobs):
        verdict = "failed" if number % 50 == 49 else "succeeded"
        events += [run.submit(job), run.start(job), run.end(job, verdict, cause=CAUSE if verdict == "failed" else None)]
    run.happen(*events)
    assert sum("FAILED" in line for line in run.lines) == 4
    assert len(run.lines) < 30
    run.happen(after=1.0)
    shown = sum("started" in line or "succeeded" in line for line in run.lines if "experiments" not in line)
    assert run.lines[-1] == f"... and {396 - shown} lines more"
    run.happen(after=1.0)
    assert run.lines[-1].startswith("... and")  # told once


def test_what_was_left_out_is_told_at_the_end(tmp_path: Path) -> None:
    run = Shown(tmp_path, 30)
    run.happen(*(ev.JobCancelled(t=0.0, job=job) for job in run.jobs))
    assert len(run.lines) == 20
    run.screen.stop(run.view())
    assert run.lines[-1] == "... and 10 lines more"


def test_progress_lines_now_and_then(tmp_path: Path) -> None:
    run = Shown(tmp_path, 4)
    run.begin()
    a, b, *_ = run.jobs
    run.happen(run.submit(a), run.start(a), run.submit(b), run.start(b))
    for job, fps in ((a, 1000.0), (b, 500.0)):
        path = run.plan.paths.job(job).progress
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"time": 20.0, "fps": fps, "eta_s": 60.0}))
    run.happen(after=29.0)
    assert "progress" not in run.lines[-1]
    run.happen(after=1.0)
    expected = "progress: 0 of 4 succeeded, 2 running, 2 waiting, 1,500 frames/s, about 2 min 10 s left (a rough guess)"
    assert run.lines[-1] == expected
    run.happen(after=29.0)
    assert sum(line.startswith("progress:") for line in run.lines) == 1


def test_a_reason_to_wait_is_told_once_in_a_while(tmp_path: Path) -> None:
    run = Shown(tmp_path, 4)
    run.begin()
    for _ in range(5):
        run.happen(hold="all GPU slots are taken")
        run.happen(hold="")
    assert [line for line in run.lines if "waiting:" in line] == ["waiting: all GPU slots are taken"]
    run.happen(after=31.0)
    run.happen(hold="all GPU slots are taken")
    assert run.lines[-1] == "waiting: all GPU slots are taken"


def test_trouble_comes_and_goes(tmp_path: Path) -> None:
    run = Shown(tmp_path)
    for trouble in ("the disk is full", "the disk is full", "", ""):
        run.happen(trouble=trouble)
    assert run.lines == ["TROUBLE: the disk is full", "the disk can be written again"]


@pytest.mark.parametrize("reason", ["interrupted", "terminated", "killed", "max_failures", "detached"])
def test_every_reason_to_drain_is_told(tmp_path: Path, reason: str) -> None:
    run = Shown(tmp_path)
    run.happen(run.submit(run.jobs[0]), run.start(run.jobs[0]))
    run.happen(ev.RunDraining(t=1.0, reason=reason))  # type: ignore[arg-type]
    assert "1 " in run.lines[-1]


def test_an_out_of_memory_is_tried_again_at_once(tmp_path: Path) -> None:
    run = Shown(tmp_path)
    run.happen(run.submit(run.jobs[0]), run.start(run.jobs[0]), run.end(run.jobs[0], "retry", cause=OOM))
    log = run.plan.paths.job(run.jobs[0]).attempt_log(1)
    assert run.lines[-1] == (
        f"[0/3] failed     {run.jobs[0]} after 1 min 5 s: out of GPU memory; again at once (log: {log})"
    )


class BrokenPipe(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_terminal_that_is_gone_does_not_end_the_run(tmp_path: Path) -> None:
    for out in (BrokenPipe(), io.StringIO()):
        run = Shown(tmp_path, out=out)
        out.close()
        run.begin()
        run.happen(run.submit(run.jobs[0]), run.start(run.jobs[0]))
        run.screen.stop(run.view())


def test_silence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Shown(tmp_path)
    screens: list[Screen] = [SilentScreen(), run.screen]
    for screen in screens:
        assert (list(screen.fds()), list(screen.requests())) == ([], [])
    screens[0].start(run.view())
    screens[0].update([ev.Note(t=0.0, text="x")], run.view())
    screens[0].stop(run.view())
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_progress_lines_go_on_when_the_clock_is_set_back(tmp_path: Path) -> None:
    shown = Shown(tmp_path)
    steady = 0.0
    for now in (1000.0, 1031.0, 431.0, 462.0):  # 600 s back after the second
        view = replace(shown.view(), now=now, steady=steady)
        if steady:
            shown.screen.update((), view)
        else:
            shown.screen.start(view)
        steady += 31.0
    assert sum(line.startswith("progress:") for line in shown.lines) == 3
