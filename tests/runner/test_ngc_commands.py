"""NGC's commands, and how the answers of such commands are read."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest

from sf_runner.backends.cluster.answers import AnswerError, ClusterJob, json_jobs, look_up
from sf_runner.backends.cluster.api import TRANSIENT
from sf_runner.backends.cluster.calls import CallResult, Commands, Pause
from sf_runner.backends.cluster.checked import CheckedCluster
from sf_runner.backends.cluster.ngc import Ngc

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
GUIDE = Path(__file__).parents[2] / "docs" / "ngc.md"


def test_ngc() -> None:
    ngc = Ngc()
    assert shlex.join(ngc.list("sf", 2)) == "ngc batch list --format_type json --duration 2D"
    assert tuple(ngc.kill(["1", "2"])) == ("ngc", "batch", "kill", "1,2")
    assert tuple(ngc.info("7"))[:4] == ("ngc", "batch", "info", "7")
    assert set(ngc.states.values()) == {
        "queued", "running", "succeeded", "failed", "timeout", "cancelled", "preempted", "lost",
    }  # fmt: skip
    assert (ngc.poll_s, Ngc(poll_s=60.0).poll_s) == (15.0, 60.0)


def test_the_guides_table_of_states_is_that_of_the_program() -> None:
    table = GUIDE.read_text().split("| the cloud says |")[1].split("\n\n")[0]
    told = set(re.findall(r"`([A-Z_]+)`", table))
    waits = {state for state, ours in Ngc.states.items() if ours in ("queued", "running")}
    assert told == set(Ngc.states) - waits


def test_the_guide_shows_the_examples_as_they_are() -> None:
    guide = (GUIDE.parent / "backends.md").read_text()
    assert (EXAMPLES / "aws_batch.py").read_text() in guide


@pytest.mark.parametrize(
    "says",
    [
        "Error: 503 Service",
        "Request timed out",
        "timeout",
        "Connection refused",
        "429 Too Many Requests",
        "Network is down",
    ],
)
def test_what_passes_by_itself(says: str) -> None:
    assert TRANSIENT.search(says)


@pytest.mark.parametrize("says", ["Error: image not found", "Invalid instance dgx1v.16g.500", "Invalid API key"])
def test_what_does_not(says: str) -> None:
    assert not TRANSIENT.search(says)


def entry(**status: Any) -> dict[str, Any]:
    return {"id": 7, "jobDefinition": {"name": "sf-a"}, "jobStatus": {"status": "FAILED", **status}}


def test_jobs_in_json() -> None:
    ngc = Ngc()
    full = entry(
        statusDetails="exited\nwith 3", exitCode=3, startedAt="2026-01-02T03:04:05.000Z", endedAt="2026-01-02T03:04:06Z"
    )
    (job,) = ngc.read_jobs(json.dumps([full]))
    assert job == ClusterJob(
        id="7",
        name="sf-a",
        state="FAILED",
        details="exited with 3",
        exit_code=3,
        started=1767323045.0,
        ended=1767323046.0,
    )
    assert ngc.read_jobs(json.dumps(entry())) == [ClusterJob(id="7", name="sf-a", state="FAILED")]
    broken = [entry(startedAt="yesterday", exitCode="?"), {"id": None}, {"id": 8, "jobStatus": None}, "text", None]
    assert ngc.read_jobs(json.dumps(broken)) == [ClusterJob(id="7", name="sf-a", state="FAILED")]
    assert ngc.read_jobs("[]") == ngc.read_jobs("") == []


def test_times_as_numbers() -> None:
    paths = {"jobs": "x.jobs", "id": "i", "state": "s", "started": "a", "ended": "b"}
    (job,) = json_jobs('{"x": {"jobs": [{"i": "1", "s": "R", "a": 1700000000000, "b": 1700000001.5}]}}', **paths)
    assert (job.started, job.ended) == (1700000000.0, 1700000001.5)
    assert json_jobs('{"x": {}}', **paths) == []


@pytest.mark.parametrize("text", ["no json", "3", '"text"', "{"])
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(AnswerError):
        Ngc().read_jobs(text)


@pytest.mark.parametrize("text", ["", "{}", '{"id": null}', '{"id": ""}', '{"id": {"a": 1}}', '{"id": true}', "<html>"])
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(AnswerError):
        Ngc().read_id(text)


@pytest.mark.parametrize(
    ("job", "says"),
    [
        ({"id": 7, "started": "12:30"}, "returned a job whose started is '12:30', which is no number"),
        ({"id": 7, "exit_code": True}, "returned a job whose exit_code is True, which is no number"),
        ({"id": None}, "found no job id, but None"),
        ({"id": " "}, "found no job id, but ' '"),
    ],
)
def test_what_a_class_must_not_say_of_a_job(job: dict[str, Any], says: str) -> None:
    class Says(Ngc):
        def read_jobs(self, output: str) -> list[ClusterJob]:
            return [ClusterJob(**{"name": "a", "state": "RUNNING", **job})]

    with pytest.raises(AnswerError) as caught:
        CheckedCluster(Says()).read_jobs("")
    assert str(caught.value) == f"Says.read_jobs {says}"


@pytest.mark.parametrize(
    ("argv", "says", "hopeless"),
    [
        (["no-such-program"], "program 'no-such-program' was not found on PATH", True),
        (["/dev/null"], "'/dev/null': Permission denied", True),
        (["true", "a\0b"], "'true': embedded null byte", True),
    ],
)
def test_a_command_that_cannot_be_started_says_why(argv: list[str], says: str, hopeless: bool) -> None:
    results: list[CallResult] = []
    commands = Commands(60.0, 1)
    commands.start(argv, results.append)
    commands.close(wait=True)
    (result,) = results
    assert (result.ok, result.said, result.hopeless) == (False, says, hopeless)


def test_a_command_that_takes_too_long_is_killed_and_what_it_left_behind_holds_nobody_up() -> None:
    results: list[CallResult] = []
    commands = Commands(2.0, 2)
    commands.start(["sh", "-c", "echo begun; sleep 600"], results.append)
    commands.start(["sh", "-c", "sleep 600 & echo $!"], results.append)
    commands.close(wait=True)
    left, slow = sorted(results, key=lambda result: result.output)
    assert slow.output == "begun\n"
    assert slow.said == "no answer in time"
    assert left.ok
    os.kill(int(left.output), signal.SIGKILL)


def test_paths_into_json() -> None:
    body = {"a": [{"b": 1}, 2], "0": "zero"}
    assert [look_up(body, path) for path in ("a.0.b", "a.1", "0", "a.2", "a.b", "a.0.b.c")] == [
        1,
        2,
        "zero",
        None,
        None,
        None,
    ]


def test_waiting_ever_longer_and_saying_so_once() -> None:
    told: list[str] = []
    pause = Pause("it fails", "it works", 5.0, told.append)
    waits = []
    now = 0.0
    for _ in range(9):
        pause.failed(now, "boom")
        pause.failed(now, "another that ran at the same time")
        waits.append(pause.until - now)
        now = pause.until
    assert waits == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0]
    pause.answered()
    pause.answered()
    assert told == ["it fails: boom; submitted jobs go on, trying again ever later", "it works"]
    assert pause.until <= now
