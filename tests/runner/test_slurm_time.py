"""Time limits: what Slurm says of them, when a job saves, and whether an experiment gets further within one."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from sf_runner.backends.slurm.batches import BatchHeader, TaskJob
from sf_runner.backends.slurm.further import Trace, finding, look_back, told_of, trace_of
from sf_runner.backends.slurm.script import ScriptSettings
from sf_runner.backends.slurm.task_records import JobHistory
from sf_runner.backends.slurm.time_limit import (
    Deadline,
    TimeLimit,
    ahead_s,
    limit_s,
    needs_own_clock,
    partition_limit,
    qos_limit,
    shortest,
)
from sf_runner.basics.clock import steady_s

PARTITIONS = """\
PartitionName=main AllowQos=ALL Default=YES QoS=N/A DefaultTime=NONE Hidden=NO MaxTime=UNLIMITED State=UP
PartitionName=short Default=NO QoS=tight DefaultTime=NONE MaxNodes=UNLIMITED MaxTime=00:01:00 MinNodes=0
PartitionName=long Default=NO QoS=N/A DefaultTime=00:30:00 MaxTime=7-00:00:00
"""


@pytest.mark.parametrize(
    ("time", "seconds"),
    [("90", 5400), ("2:30", 150), ("1:00:00", 3600), ("2-12", 216000), ("1-0:30", 88200), ("UNLIMITED", None)],
)
def test_how_long_a_time_limit_is(time: str, seconds: float | None) -> None:
    assert limit_s(time) == seconds


def test_the_limit_of_a_partition_and_of_its_qos() -> None:
    assert partition_limit(PARTITIONS, "") == (TimeLimit(seconds=None, source="partition 'main'"), [])
    short = TimeLimit(seconds=60.0, source="partition 'short'")
    assert partition_limit(PARTITIONS, "short") == (short, ["tight"])
    assert partition_limit(PARTITIONS, "long,short")[0] == short
    assert partition_limit(PARTITIONS, "long")[0] == TimeLimit(seconds=1800.0, source="partition 'long'")
    assert partition_limit(PARTITIONS, "unknown") == (None, [])
    assert qos_limit("normal||\ntight|00:00:30\n", "tight") == TimeLimit(seconds=30.0, source="QOS 'tight'")
    assert qos_limit("normal|\n", "normal") is None
    assert shortest([None, short, TimeLimit(seconds=None, source="x")]) == short
    assert shortest([None]) is None


def test_when_a_job_is_to_save() -> None:
    assert ahead_s(120.0, 3600.0, fits=True) == 120.0
    assert ahead_s(120.0, 60.0, fits=True) == 20.0
    assert ahead_s(120.0, None, fits=True) == 120.0
    assert ahead_s(55.0, 60.0, fits=False) == 55.0, "somebody asked for it"
    assert ahead_s(90.0, 60.0, fits=False) == 20.0, "it would never run"
    settings = ScriptSettings(job_name="s", folder="/w", command=["x"])
    assert settings.ahead_s == 120.0
    assert replace(settings, limit=TimeLimit(seconds=60.0, source="p")).ahead_s == 20.0
    assert replace(settings, signal_ahead_s=300.0).ahead_s == 300.0


def test_the_wrapper_keeps_its_own_time_where_slurms_signal_is_too_inexact() -> None:
    assert needs_own_clock(TimeLimit(seconds=60.0, source="p"), 20.0)
    assert needs_own_clock(None, 120.0), "nobody knows the limit"
    assert not needs_own_clock(TimeLimit(seconds=86400.0, source="p"), 120.0)
    assert not needs_own_clock(TimeLimit(seconds=None, source="p"), 120.0)


HEADER = BatchHeader(run_id=uuid.uuid4().hex, num_tasks=1, fits_ahead=True)


class Slurm:
    """Says how much time is left of a job that began at 1000."""

    def __init__(self, limit: float | None) -> None:
        self.limit, self.now = limit, 1000.0

    def left(self) -> float | None:
        return None if self.limit is None else 1000.0 + self.limit - self.now


def at(deadline: Deadline, slurm: Slurm, now: float) -> bool:
    slurm.now = now
    return deadline.is_over(now)


def test_a_short_limit_leaves_two_thirds_of_the_time() -> None:
    slurm = Slurm(60.0)
    deadline = Deadline(replace(HEADER, asks_end=True), slurm.left)
    deadline.begin(1000.0)
    assert (deadline.at, deadline.ahead_s, deadline.flag) == (1040.0, 20.0, "--slurm_time")
    assert not at(deadline, slurm, 1039.0)
    assert at(deadline, slurm, 1040.0)


def test_a_signal_that_comes_too_early_is_not_believed() -> None:
    slurm = Slurm(90.0)
    deadline = Deadline(HEADER, slurm.left)
    deadline.begin(1000.0)
    assert deadline.at == float("inf")
    slurm.now = 1001.0
    assert not deadline.warned(1001.0)
    assert deadline.at == 1060.0
    slurm.now = 1060.0
    assert deadline.warned(1060.0)


def test_a_signal_is_believed_where_slurm_cannot_be_asked() -> None:
    deadline = Deadline(HEADER, Slurm(None).left)
    deadline.begin(1000.0)
    assert deadline.warned(1001.0)


def test_a_limit_that_was_extended_meanwhile_counts() -> None:
    slurm = Slurm(60.0)
    deadline = Deadline(replace(HEADER, asks_end=True), slurm.left)
    deadline.begin(1000.0)
    slurm.limit = 600.0
    assert not at(deadline, slurm, 1040.0)
    assert deadline.at == 1480.0
    assert at(deadline, slurm, 1480.0)


def test_ones_own_limit_asks_nobody() -> None:
    slurm = Slurm(86400.0)
    deadline = Deadline(replace(HEADER, timeout_s=50.0), slurm.left)
    deadline.begin(1000.0)
    assert deadline.flag == "--slurm_timeout"
    assert at(deadline, slurm, 1050.0)


def steps(*numbers: float) -> list[Trace]:
    return [Trace(step=number) for number in numbers]


@pytest.mark.parametrize(
    ("traces", "found"),
    [
        (steps(1000), "unknown"),
        (steps(1000, 2000), "further"),
        (steps(1000, 1950, 2900, 3850), "further"),
        (steps(1000, 1000), "stuck"),
        (steps(1000, 1030), "stuck"),
        (steps(1000, 970), "stuck"),
        (steps(1000, 2000, 2000), "stuck"),
        (steps(0, 0), "stuck"),
    ],
)
def test_what_says_its_progress_is_judged_by_it(traces: list[Trace], found: str) -> None:
    assert finding(traces) == found


class Attempts:
    """An experiment's folder and the one in which it runs."""

    def __init__(self, folder: Path) -> None:
        self.cwd, self.run = folder / "cwd", folder / "cwd" / "train" / "run"
        self.folder = self.run / "e" / "job"
        self.folder.mkdir(parents=True)
        self.traces: list[Trace] = []

    def end(self, printed: str, signum: int | None = 15) -> None:
        attempt = len(self.traces) + 1
        (self.folder / f"attempt_{attempt}.log").write_text(printed)
        job = TaskJob(job="e", attempt=1, argv=["x"], env={}, folder=str(self.folder))
        trace = trace_of(job, attempt, {"signal": signum}, run_folder=str(self.run))
        self.traces.append(Trace(**json.loads(json.dumps(trace.to_json()))))


@pytest.fixture
def attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Attempts:
    made = Attempts(tmp_path)
    monkeypatch.chdir(made.cwd)
    return made


@pytest.mark.parametrize(("first", "second"), [("", ""), ("1\n2\n3\n", "1\n2\n3\n4\n"), ("1\n2\n3\n", "1\n2\n")])
def test_what_leaves_no_trace_and_begins_anew_gets_nowhere(attempts: Attempts, first: str, second: str) -> None:
    (attempts.cwd / "run.log").write_text("a")
    attempts.end(first)
    with (attempts.cwd / "run.log").open("a") as file:
        file.write("somebody's log grows")
    attempts.end(second)
    assert finding(attempts.traces) == "stuck"
    assert "--slurm_time" in told_of(attempts.traces, "--slurm_time")["error"]


@pytest.mark.parametrize("why", ["handled", "resumed", "new file", "rewritten", "replaced", "many"])
def test_what_may_have_saved_is_only_told_of(attempts: Attempts, why: str) -> None:
    point = attempts.folder.parent / "point" if why == "replaced" else attempts.cwd / "point"
    if why != "new file":
        point.write_text("1")
    if why == "many":
        for number in range(400):
            (attempts.cwd / f"f{number}").touch()
    attempts.end("begin\n", None if why == "handled" else 15)
    if why in ("rewritten", "new file"):
        point.write_text("2")
        os.utime(point, (1e9, 1e9))
    if why == "replaced":
        (attempts.cwd / "draft").write_text("two")
        (attempts.cwd / "draft").rename(point)
    attempts.end("go on from 1\n" if why == "resumed" else "begin\n", None if why == "handled" else 15)
    assert finding(attempts.traces) == "unknown"
    assert list(told_of(attempts.traces, "--slurm_time")) == ["doubt"]
    attempts.end("x")
    assert told_of(attempts.traces, "--slurm_time") == {}, "it is told once"


def test_what_had_only_the_rest_of_the_time_is_not_judged(attempts: Attempts) -> None:
    job = TaskJob(job="e", attempt=1, argv=["x"], env={}, folder=str(attempts.folder))
    deadline = Deadline(HEADER, Slurm(60.0).left)
    deadline.begin(steady_s() - 40.0)
    record = {"signal": 15, "duration_s": 5.0}
    assert look_back(job, 1, record, JobHistory(), deadline, attempts.run) == {}
    record["duration_s"] = 39.0
    assert list(look_back(job, 1, record, JobHistory(), deadline, attempts.run)) == ["trace"]
