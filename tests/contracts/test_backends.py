"""What every backend promises: each attempt is reported started and ended, or not started, exactly once."""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import pytest

from sf_runner.backends.base import Backend, Ended, Known, Launch, NotStarted, Report, Started
from sf_runner.backends.local.backend import ProcessesBackend
from sf_runner.backends.slurm import task
from sf_runner.backends.slurm.backend import SlurmBackend
from sf_runner.backends.slurm.client import SlurmClient
from sf_runner.backends.slurm.packing import SubmitSettings
from sf_runner.backends.slurm.script import JobShape, ScriptSettings
from sf_runner.basics.clock import steady_s
from sf_runner.linux.kernel import make_subreaper
from sf_runner.linux.process_tools import handle_of, tagged_processes
from sf_runner.slots.placement import ANYWHERE
from sf_runner.testing.fake_backend import FakeBackend, FakeMachine, FakeProgram
from sf_runner.testing.fake_clock import FakeClock
from tests.runner.ngc_rig import NgcRig
from tests.runner.slurm_cluster import SlurmCluster

PATIENCE_S = 60.0
RUN_ID = "c0ffee0c0ffee000"


class Rig(Protocol):
    """A backend and the hands to play with its jobs."""

    backend: Backend

    def launch(self, job: str, *, attempt: int = 1, kind: str = "patient") -> Launch:
        """`patient` jobs run until `finish`; `deaf` ones ignore TERM too; `missing` ones have no such program."""

    def finish(self, job: str, exit_code: int) -> None: ...

    def elsewhere(self, *launches: Launch) -> list[Known]:
        """An earlier runner starts these, lets go of them, and is known to have done so by its journal."""

    def now(self) -> float: ...

    def wait(self) -> None:
        """Until the backend has something to say, by its own account."""

    def close(self) -> None: ...


class FakeRig:
    def __init__(self, folder: Path) -> None:
        self.now = FakeClock()
        self.machine = FakeMachine(self.now, self._program)
        self.backend: Backend = FakeBackend(self.machine)
        self.backend.open()

    def launch(self, job: str, *, attempt: int = 1, kind: str = "patient") -> Launch:
        return make_launch(job, attempt, [kind], "/nowhere")

    def _program(self, launch: Launch) -> FakeProgram:
        if launch.argv[0] == "missing":
            return FakeProgram(cannot_start="program 'missing' was not found on PATH")
        return FakeProgram(ignores_term=launch.argv[0] == "deaf")

    def finish(self, job: str, exit_code: int) -> None:
        self.machine.finish(job, exit_code)

    def elsewhere(self, *launches: Launch) -> list[Known]:
        earlier = FakeBackend(self.machine)
        earlier.open()
        for launch in launches:
            earlier.submit(launch)
        started = [report for report in earlier.poll(self.now()) if isinstance(report, Started)]
        earlier.close(detach=True)
        return [known_of(launch, report) for launch, report in zip(launches, started, strict=True)]

    def wait(self) -> None:
        ready, _, _ = select.select(self.backend.fds(), (), (), 0)
        wake = self.backend.next_wake()
        assert ready or wake is not None, "nothing would ever happen"
        if not ready and wake is not None:
            self.now.advance_to(wake)

    def close(self) -> None:
        self.backend.close(detach=True)


class ProcessesRig:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._earlier: list[int] = []
        self._open([])

    def _open(self, recorders: Sequence[dict[str, object]]) -> None:
        backend = ProcessesBackend(RUN_ID, recorders=recorders, leftover_grace_s=0.2)
        backend.open()
        self.backend: Backend = backend

    def launch(self, job: str, *, attempt: int = 1, kind: str = "patient") -> Launch:
        file = self._folder / f"finish_{job}"
        wait = f"echo ready; until test -e '{file}'; do sleep 0.01; done; exit $(cat '{file}')"
        scripts = {"patient": wait, "deaf": f"trap '' TERM; {wait}"}
        argv = ["no-such-program"] if kind == "missing" else ["sh", "-c", scripts[kind]]
        return make_launch(job, attempt, argv, str(self._folder / job))

    def finish(self, job: str, exit_code: int) -> None:
        draft = self._folder / f"draft_{job}"
        draft.write_text(str(exit_code))
        draft.rename(self._folder / f"finish_{job}")

    def elsewhere(self, *launches: Launch) -> list[Known]:
        self.backend.close(detach=False)
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            with suppress(BaseException):
                earlier = ProcessesBackend(RUN_ID, leftover_grace_s=0.2)
                earlier.open()
                for launch in launches:
                    earlier.submit(launch)
                os.write(writing, pickle.dumps(earlier.poll(steady_s())))
                os.close(writing)
                earlier.close(detach=True)
                earlier.outlive_jobs()
            os._exit(0)
        self._earlier.append(pid)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            started = pickle.load(pipe)
        self._open([handle_of(pid)])
        return [known_of(launch, report) for launch, report in zip(launches, started, strict=True)]

    def now(self) -> float:
        return steady_s()

    def wait(self) -> None:
        wake = self.backend.next_wake()
        timeout_s = PATIENCE_S if wake is None else max(0.0, wake - steady_s())
        ready, _, _ = select.select(self.backend.fds(), (), (), timeout_s)
        assert ready or wake is not None, "nothing happened for a minute"

    def close(self) -> None:
        for pids in tagged_processes([f"{RUN_ID}:"]).values():
            for pid in pids:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        for pid in self._earlier:
            os.waitpid(pid, 0)
        collect(self, lambda reports: False, tries=20)
        self.backend.close(detach=False)
        make_subreaper(False)  # this process serves other tests too


class SlurmRig:
    def __init__(self, folder: Path, cluster: SlurmCluster) -> None:
        self._folder = folder
        self._cluster = cluster
        self._open()

    def _open(self) -> None:
        command = [sys.executable, str(Path(task.__file__))]
        script = ScriptSettings(job_name="rig", folder=str(self._folder), command=command)
        settings = SubmitSettings(script=script, shape_of=lambda job: JobShape(), run_id=RUN_ID)
        client = SlurmClient(self._cluster.environ)
        self.backend: Backend = SlurmBackend(self._folder / "batches", settings, poll_s=0.5, client=client)
        self.backend.open()

    launch = ProcessesRig.launch
    finish = ProcessesRig.finish
    now = ProcessesRig.now
    wait = ProcessesRig.wait

    def elsewhere(self, *launches: Launch) -> list[Known]:
        for launch in launches:
            self.backend.submit(launch)
        reports = collect(self, lambda reports: len(reports) >= len(launches))
        started = {report.job: report for report in reports if isinstance(report, Started)}
        self.backend.close(detach=True)
        self._open()
        return [known_of(launch, started[launch.job]) for launch in launches]

    def close(self) -> None:
        self.backend.close(detach=True)
        self._cluster.clear()


def make_launch(job: str, attempt: int, argv: Sequence[str], folder: str) -> Launch:
    return Launch(
        job=job,
        attempt=attempt,
        argv=argv,
        env={},
        placement=ANYWHERE,
        log=f"{folder}/attempt_{attempt}.log",
        exit_record=f"{folder}/exit.json",
    )


def known_of(launch: Launch, started: Started) -> Known:
    assert launch.job == started.job
    return Known(
        job=launch.job,
        attempt=launch.attempt,
        handle=started.handle,
        log=launch.log,
        exit_record=launch.exit_record,
    )


RIGS: dict[str, Callable[[Path], Rig]] = {
    "fake": FakeRig,
    "processes": ProcessesRig,
    "ngc": NgcRig,
    "ngc_by_name": lambda folder: NgcRig(folder, by_name=True),
}


@pytest.fixture(params=[*RIGS, pytest.param("slurm", marks=pytest.mark.slurm)])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    if request.param == "slurm":
        slurm = SlurmRig(tmp_path, request.getfixturevalue("cluster"))
        yield slurm
        slurm.close()
        return
    if request.param == "processes" and not sys.platform.startswith("linux"):
        pytest.skip("the processes backend needs Linux's /proc")
    made = RIGS[request.param](tmp_path)
    yield made
    made.close()


def collect(rig: Rig, enough: Callable[[list[Report]], bool], tries: int = 2000) -> list[Report]:
    """Everything reported until it is enough, waiting as the run loop does."""
    reports: list[Report] = []
    for _ in range(tries):
        reports += rig.backend.poll(rig.now())
        if enough(reports) or tries == 20:
            break
        rig.wait()
    return reports


def all_ended(count: int) -> Callable[[list[Report]], bool]:
    return lambda reports: sum(isinstance(report, Ended | NotStarted) for report in reports) >= count


def kinds(reports: list[Report], job: str) -> list[str]:
    return [type(report).__name__ for report in reports if report.job == job]


def test_each_is_started_and_ended_once_with_its_exit_code(rig: Rig) -> None:
    for job in ("a", "b"):
        rig.backend.submit(rig.launch(job))
    reports = collect(rig, lambda reports: len(reports) >= 2)
    rig.finish("a", 0)
    rig.finish("b", 7)
    reports += collect(rig, all_ended(2))
    assert kinds(reports, "a") == kinds(reports, "b") == ["Started", "Ended"]
    records = {report.job: report.record for report in reports if isinstance(report, Ended)}
    assert (records["a"]["exit_code"], records["b"]["exit_code"]) == (0, 7)  # type: ignore[index]
    assert all(record is not None and record["attempt"] == 1 for record in records.values())
    assert rig.backend.poll(rig.now()) == []
    assert rig.backend.next_wake() is None


def test_an_attempt_that_cannot_be_started_is_told_once(rig: Rig) -> None:
    rig.backend.submit(rig.launch("a", kind="missing"))
    reports = collect(rig, all_ended(1))
    (report,) = reports
    assert isinstance(report, NotStarted)
    assert report.permanent
    assert "was not found on PATH" in report.error
    assert rig.backend.poll(rig.now()) == []


def test_a_job_can_be_tried_again(rig: Rig) -> None:
    for attempt in (1, 2):
        rig.backend.submit(rig.launch("a", attempt=attempt))
        if attempt == 1:
            collect(rig, bool)
            rig.finish("a", 1)
            (ended,) = collect(rig, all_ended(1))
        else:
            reports = collect(rig, bool)
            rig.backend.stop("a", "kill", 0.0)
            reports += [] if all_ended(1)(reports) else collect(rig, all_ended(1))
            ended = reports[-1]
        assert isinstance(ended, Ended)
        assert ended.attempt == attempt


@pytest.mark.parametrize("kind", ["patient", "deaf"])
def test_stopping_ends_it_once_however_often_it_is_asked_for(rig: Rig, kind: str) -> None:
    rig.backend.submit(rig.launch("a", kind=kind))
    rig.backend.submit(rig.launch("b"))
    reports = collect(rig, lambda reports: len(reports) >= 2)
    for _ in range(3):
        rig.backend.stop("a", "terminate", 0.2)
    reports += collect(rig, all_ended(1))
    rig.backend.stop("a", "terminate", 0.2)
    rig.backend.stop("nobody", "kill", 0.0)
    assert kinds(reports, "a") == ["Started", "Ended"]
    assert kinds(reports, "b") == ["Started"]
    record = reports[-1].record  # type: ignore[union-attr]
    if kind == "deaf":  # told before its trap was set it may have ended by TERM
        assert record["signal"] in (signal.SIGKILL, signal.SIGTERM)  # type: ignore[index]
    else:
        assert record["signal"] == signal.SIGTERM  # type: ignore[index]
    rig.backend.stop("b", "kill", 0.0)
    assert kinds(collect(rig, all_ended(1)), "b") == ["Ended"]


def test_killing_does_not_wait_for_the_grace_period(rig: Rig) -> None:
    rig.backend.submit(rig.launch("a", kind="deaf"))
    collect(rig, bool)
    rig.backend.stop("a", "terminate", 1e6)
    before = rig.now()
    rig.backend.stop("a", "kill", 0.0)
    collect(rig, all_ended(1))
    assert rig.now() - before < 1e5


def test_attempts_of_an_earlier_runner_are_found_again(rig: Rig) -> None:
    launches = [rig.launch(job) for job in ("lives", "ended", "unsure")]
    lives, ended, unsure = rig.elsewhere(*launches)
    rig.finish("ended", 3)
    never = Known(
        job="never", attempt=1, handle=None, log=unsure.log + ".none", exit_record=unsure.exit_record + ".none"
    )
    unsure = Known(job="unsure", attempt=1, handle=None, log=unsure.log, exit_record=unsure.exit_record)
    reports = rig.backend.adopt([lives, ended, unsure, never])
    reports += collect(rig, lambda new: all_ended(2)(reports + new) and kinds(reports + new, "unsure") != [])
    assert kinds(reports, "lives") == []
    assert kinds(reports, "unsure") == ["Started"]
    assert kinds(reports, "ended") == kinds(reports, "never") == ["Ended"]
    records = {report.job: report.record for report in reports if isinstance(report, Ended)}
    assert records["ended"]["exit_code"] == 3  # type: ignore[index]
    assert records["never"] is None
    rig.finish("lives", 0)
    rig.backend.stop("unsure", "terminate", 5.0)
    reports = collect(rig, all_ended(2))
    assert kinds(reports, "lives") == kinds(reports, "unsure") == ["Ended"]
    records = {report.job: report.record for report in reports if isinstance(report, Ended)}
    assert records["lives"]["exit_code"] == 0  # type: ignore[index]
    assert records["unsure"]["signal"] == signal.SIGTERM  # type: ignore[index]
    assert rig.backend.poll(rig.now()) == []
