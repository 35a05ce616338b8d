"""Runs with known results, written with the real journal and tensorboard's own record writer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from sf_runner.basics.paths import RunPaths
from sf_runner.describe.description import Experiment, RunDescription
from sf_runner.describe.params import ParamGrid
from sf_runner.describe.plan import Job, make_plan
from sf_runner.engine.reconcile import entry
from sf_runner.state import events as ev
from sf_runner.state.jobs import FailureCause, Verdict
from sf_runner.store.journal import Journal

BEGIN = 1_700_000_000.0


class DescribedRun:
    """A run under `train_dir` whose jobs a test ends one by one."""

    def __init__(self, train_dir: Path, description: RunDescription) -> None:
        self.plan = make_plan(description, train_dir)
        self.paths: RunPaths = self.plan.paths
        self.journal, _ = Journal.open(self.paths.journal, self.plan.run_name)
        self.journal.append(
            [
                ev.RunOpened(t=BEGIN, pid=1, host="h", backend="processes", max_parallel=2),
                ev.JobsPlanned(t=BEGIN, jobs=[entry(job, float(job.index)) for job in self.plan.jobs]),
            ]
        )
        self._attempts: dict[str, int] = {}

    def job(self, **params: object) -> Job:
        """The one job with these parameters."""
        (found,) = [job for job in self.plan.jobs if all(job.params[name] == value for name, value in params.items())]
        return found

    def attempt(self, job: Job, verdict: Verdict | None, duration_s: float = 100.0, error: str = "boom") -> None:
        """One more attempt of a job; `None`: it goes on running."""
        number = self._attempts[job.job_id] = self._attempts.get(job.job_id, 0) + 1
        job.paths.job_dir.mkdir(parents=True, exist_ok=True)
        job.paths.attempt_log(number).touch()
        events: list[ev.Event] = [
            ev.AttemptSubmitted(t=BEGIN, job=job.job_id, attempt=number, placement={}),
            ev.AttemptStarted(t=BEGIN, job=job.job_id, attempt=number, handle={}),
        ]
        if verdict is not None:
            cause = None
            if verdict in ("failed", "retry"):
                cause = FailureCause(kind="exit", summary=error, fingerprint=error)
            events.append(
                ev.AttemptEnded(
                    t=BEGIN + duration_s,
                    job=job.job_id,
                    attempt=number,
                    verdict=verdict,
                    code=0,
                    duration_s=duration_s,
                    cause=cause,
                )
            )
        self.journal.append(events)

    def close(self) -> None:
        self.journal.close()


class SyntheticRun(DescribedRun):
    """The run `name` of one experiment over a grid."""

    def __init__(self, train_dir: Path, name: str, grid: Sequence[tuple[Any, Sequence[Any]]]) -> None:
        params = ParamGrid(list(grid)).generate_params()
        super().__init__(train_dir, RunDescription(name, experiments=[Experiment("base", "train --env=e", params)]))


class EventFile:
    """One of tensorboard's event files."""

    def __init__(self, folder: Path, number: int = 0, begin: float = BEGIN) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"events.out.tfevents.{int(begin):010d}.host.1.{number}"
        self._file = self.path.open("wb")
        self._writer = RecordWriter(self._file)
        self._begin = begin
        self._write(Event(wall_time=begin, file_version="brain.Event:2"))

    def start_at(self, step: int) -> None:
        """Says that what was written from `step` on no longer counts."""
        self._write(Event(wall_time=self._begin, step=step, session_log=SessionLog(status=SessionLog.START)))

    def scalars(self, step: int, values: Mapping[str, float], seconds: float = 0.0) -> None:
        listed = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(Event(wall_time=self._begin + seconds, step=step, summary=Summary(value=listed)))

    def add(self, event: Event) -> None:
        self._write(event)

    def _write(self, event: Event) -> None:
        self._writer.write(event.SerializeToString())
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def write_curve(folder: Path, tag: str, points: Sequence[tuple[int, float]], fps: float = 0.0) -> None:
    """One event file in `folder`; a value every 10 seconds."""
    file = EventFile(folder)
    for number, (step, value) in enumerate(points):
        file.scalars(step, {tag: value, **({"perf/fps": fps} if fps else {})}, seconds=10.0 * number)
    file.close()


def write_results(job: Job, **values: object) -> None:
    job.paths.experiment_dir.mkdir(parents=True, exist_ok=True)
    job.paths.results.write_text(json.dumps(values))
