"""The logs command, also while the experiment goes on."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sf_runner import logs
from sf_runner.basics.paths import RunPaths
from sf_runner.state import events as ev
from sf_runner.state.fold import RunState
from sf_runner.store.journal import Journal
from tests.runner.builders import opening, simple_plan

FIRST, SECOND = "job_/00_job_see_0", "job_/01_job_see_1"


class Run:
    """A run on disk whose journal and logs the test writes."""

    def __init__(self, train_dir: Path) -> None:
        plan = simple_plan(12, train_dir)
        self.paths: RunPaths = plan.paths
        self.journal, _ = Journal.open(self.paths.journal, plan.run_name)
        self.write(*opening(plan, RunState()))

    def write(self, *events: ev.Event) -> None:
        self.journal.append(events)
        assert self.journal.flush()

    def start(self, job: str = FIRST, attempt: int = 1) -> None:
        self.write(ev.AttemptSubmitted(t=1.0, job=job, attempt=attempt, placement={}))
        self.write(ev.AttemptStarted(t=1.0, job=job, attempt=attempt, handle={}))

    def end(self, verdict: str, job: str = FIRST, attempt: int = 1) -> None:
        self.write(ev.AttemptEnded(t=2.0, job=job, attempt=attempt, verdict=verdict))  # type: ignore[arg-type]

    def log(self, text: bytes | str, job: str = FIRST, attempt: int = 1) -> Path:
        path = self.paths.job(job).attempt_log(attempt)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(text if isinstance(text, bytes) else text.encode())
        return path


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "train_dir")


@pytest.fixture
def show(run: Run, capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., bytes]:
    def call(*argv: str) -> bytes:
        assert logs.main(["study", *argv, f"--train_dir={run.paths.train_dir}"]) == 0
        return capfdbinary.readouterr().out

    return call


def error(run: Run, capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert logs.main(["study", *argv, f"--train_dir={run.paths.train_dir}"]) == 2
    return capsys.readouterr().err


def test_the_output_as_it_is_whatever_bytes(run: Run, show: Callable[..., bytes]) -> None:
    data = bytes(range(256)) * 1000
    run.log(data)
    assert show("0") == data


def test_the_last_attempt_or_an_earlier_one(run: Run, show: Callable[..., bytes]) -> None:
    for attempt in (1, 2, 10):
        run.log(f"attempt {attempt}\n", attempt=attempt)
    assert show(FIRST) == b"attempt 10\n"
    assert show("00_job*", "--attempt=2") == b"attempt 2\n"


def test_the_path_alone(run: Run, show: Callable[..., bytes]) -> None:
    path = run.log("x")
    assert show("0", "--path").decode() == f"{path}\n"


@pytest.mark.parametrize("ending", ["\n", ""])
@pytest.mark.parametrize(("count", "expected"), [(0, ""), (1, "c"), (2, "b\nc"), (3, "a\nb\nc"), (99, "a\nb\nc")])
def test_the_last_lines(run: Run, show: Callable[..., bytes], ending: str, count: int, expected: str) -> None:
    run.log("a\nb\nc" + ending)
    assert show("0", f"--tail={count}").decode() == (expected + ending if count else "")


def test_the_last_lines_of_a_large_log(run: Run, show: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [b"%d %s\n" % (n, b"x" * (n % 7)) for n in range(300)]
    run.log(b"".join(lines))
    for block in (1, 2, 7, 64):
        monkeypatch.setattr(logs, "_BLOCK", block)
        for count in (1, 2, 50, 299, 300, 301):
            assert show("0", "-n", str(count)) == b"".join(lines[-count:])


@pytest.mark.parametrize("text", ["", "\n", "\n\n\n"])
def test_the_last_lines_of_next_to_nothing(run: Run, show: Callable[..., bytes], text: str) -> None:
    run.log(text)
    assert show("0", "--tail=1") == text[-1:].encode()


def test_faults(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert "'job_/00_job_see_0' has not started yet; it has no log" in error(run, capsys, "0")
    assert "'*see_1*' matches 3 experiments" in error(run, capsys, "*see_1*")
    assert "no job '77'" in error(run, capsys, "77")
    run.log("x")
    run.log("x", attempt=3)
    message = error(run, capsys, "0", "--attempt=2")
    assert message.endswith("--attempt=2: 'job_/00_job_see_0' has the logs attempt_1.log, attempt_3.log\n")


def test_a_log_that_may_not_be_read_is_one_line(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    path = run.paths.job(FIRST).attempt_log(1)
    path.mkdir(parents=True)
    assert logs.main(["study", "0", f"--train_dir={run.paths.train_dir}"]) == 1
    assert capsys.readouterr().err == f"error: cannot read {path}: Is a directory\n"


# ---- following ---------------------------------------------------------------------------------------------------


class Follower:
    """`logs --follow` in a thread; every poll of it waits for the test to allow the next one."""

    def __init__(self, run: Run, monkeypatch: pytest.MonkeyPatch, *argv: str, live: bool = True) -> None:
        self.live = live
        self.out = io.BytesIO()
        self._turn, self._waiting = threading.Semaphore(0), threading.Semaphore(0)
        stdout = io.TextIOWrapper(self.out, write_through=True)
        monkeypatch.setattr(sys, "stdout", stdout)
        monkeypatch.setattr(logs, "is_held", lambda paths: self.live)
        monkeypatch.setattr(logs.time, "sleep", self._sleep)
        self._thread = threading.Thread(
            target=self._run, args=(["study", *argv, f"--train_dir={run.paths.train_dir}"],)
        )
        self.code: int | None = None
        self._thread.start()

    def _run(self, argv: list[str]) -> None:
        try:
            self.code = logs.main(argv)
        finally:
            self._waiting.release()

    def _sleep(self, seconds: float) -> None:
        self._waiting.release()
        assert self._turn.acquire(timeout=60.0)

    def step(self) -> str:
        """Let it look once more; what it has shown so far."""
        assert self._waiting.acquire(timeout=60.0)
        shown = self.out.getvalue().decode()
        self._turn.release()
        return shown

    def end(self) -> str:
        """It must end by itself now, in as many looks as it needs."""
        self._turn.release(1000)
        self._thread.join(timeout=60.0)
        assert not self._thread.is_alive()
        assert self.code == 0
        return self.out.getvalue().decode()


def test_following_until_it_ends(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.start()
    run.log("one\n")
    follower = Follower(run, monkeypatch, "0", "-f")
    assert follower.step() == "one\n"
    run.log("two\n")
    follower.step()
    assert follower.step() == "one\ntwo\n"
    run.log("three\n")
    run.end("succeeded")
    assert follower.end() == "one\ntwo\nthree\n"


def test_following_goes_on_with_the_next_attempt(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.start()
    run.log("first\n")
    follower = Follower(run, monkeypatch, "0", "-f")
    follower.step()
    run.end("retry")
    assert follower.step() == "first\n"
    run.start(attempt=2)
    run.log("second\n", attempt=2)
    run.end("succeeded", attempt=2)
    assert follower.end() == "first\nsecond\n"


def test_following_waits_for_an_experiment_to_start(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    follower = Follower(run, monkeypatch, "1", "--follow", "--tail=1")
    assert follower.step() == ""
    run.log("one\ntwo\n", job=SECOND)
    run.start(job=SECOND)
    run.end("succeeded", job=SECOND)
    assert follower.end() == "two\n"


def test_following_one_attempt_ends_with_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.start()
    run.log("first\n")
    follower = Follower(run, monkeypatch, "0", "-f", "--attempt=1")
    follower.step()
    run.end("retry")
    run.start(attempt=2)
    run.log("second\n", attempt=2)
    assert follower.end() == "first\n"


def test_nobody_is_left_to_follow(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.start()
    run.log("first\n")
    run.end("retry")
    follower = Follower(run, monkeypatch, "0", "-f", live=False)
    assert follower.end() == "first\n"


def test_nothing_to_follow(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    message = error(run, capsys, "0", "--follow")
    assert "'job_/00_job_see_0' has no log of attempt 1, and no runner is at work on it" in message


def test_following_survives_a_run_that_is_begun_anew(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.start()
    run.log("old\n")
    follower = Follower(run, monkeypatch, "0", "-f")
    assert follower.step() == "old\n"
    text = run.paths.journal.read_text()
    draft = run.paths.journal.with_name("draft")
    draft.write_text(text.splitlines(keepends=True)[0])  # its jobs are not planned yet
    draft.replace(run.paths.journal)
    follower.step()
    draft.write_text(text)
    draft.replace(run.paths.journal)
    run.journal, _ = Journal.open(run.paths.journal, "study")
    run.log("new\n")
    follower.step()
    follower.step()
    run.end("succeeded")
    assert "new\n" in follower.end()
