"""Command sets of clouds, and how the answers of their commands are read."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from sf_runner.backends.cloud.answers import AnswerError, CloudJob, listed_jobs, look_up, one_job, submitted_id
from sf_runner.backends.cloud.commands import Answer, CommandSet, parse_commands, read_commands
from sf_runner.backends.cloud.patience import Patience
from sf_runner.basics.errors import UsageError

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
GUIDE = Path(__file__).parents[2] / "docs" / "ngc.md"

TABLE = """
[cloud]
name = Grid
[submit]
regex = Submitted job (?P<id>[\\w.]+)
[list]
command = gridctl ls
regex = ^\\| (?P<id>\\S+) +\\| (?P<name>\\S+) +\\| (?P<state>\\w+) +\\| *(?P<exit_code>\\d*) *\\|$
[kill]
command = gridctl rm {{ ids }}
ids_joined_by = space
[states]
running = R
succeeded = D
failed = F E
"""


def parse(text: str, **environ: str) -> CommandSet:
    return parse_commands(text, "--ngc_commands=x.ini", environ)


def ngc() -> CommandSet:
    return parse_commands(*read_commands(None), {})


def test_ngc() -> None:
    commands = ngc()
    assert commands.name == "NGC"
    listing = shlex.join(commands.list.render({"days": "2", "run_prefix": "sf"}))
    assert listing == "ngc batch list --format_type json --duration 2D"
    assert commands.kill.render({"id": "1", "ids": "1,2"}) == ("ngc", "batch", "kill", "1,2")
    assert commands.info is not None
    assert commands.info.render({"id": "7"})[:4] == ("ngc", "batch", "info", "7")
    assert set(commands.states.values()) == {
        "queued", "running", "succeeded", "failed", "timeout", "cancelled", "preempted", "lost",
    }  # fmt: skip


def test_the_guides_table_of_states_is_that_of_the_program() -> None:
    table = GUIDE.read_text().split("| the cloud says |")[1].split("\n\n")[0]
    told = set(re.findall(r"`([A-Z_]+)`", table))
    waits = {state for state, ours in ngc().states.items() if ours in ("queued", "running")}
    assert told == set(ngc().states) - waits


def test_the_guide_shows_the_examples_as_they_are() -> None:
    guide = GUIDE.read_text()
    for name in ("aws_batch.ini", "aws_batch.template"):
        lines = (EXAMPLES / name).read_text().splitlines()
        text = "\n".join(line for line in lines if not line.startswith("#"))
        assert text in guide


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
    assert ngc().transient.search(says)


@pytest.mark.parametrize("says", ["Error: image not found", "Invalid instance dgx1v.16g.500", "Invalid API key"])
def test_what_does_not(says: str) -> None:
    assert not ngc().transient.search(says)


def test_a_file_can_change_a_part_of_ngc() -> None:
    commands = parse(
        "[cloud]\nbase = ngc\npoll_s = 60\n[list]\ncommand = ngc batch list --team {{ env.TEAM }} --format_type json\n"
        "[states]\nlost = TASK_LOST EXPLODED\n",
        TEAM="rl",
    )
    assert (commands.poll_s, commands.settle_s, commands.name) == (60.0, 20.0, "NGC")
    assert commands.list.render({})[3:5] == ("--team", "rl")
    assert commands.states["EXPLODED"] == "lost"
    assert commands.kill.words == ngc().kill.words


def test_a_cloud_that_prints_tables() -> None:
    commands = parse(TABLE)
    assert submitted_id("Warning: x\nSubmitted job 17.grid\n", commands.submitted) == "17.grid"
    table = "| ID | NAME | ST | EXIT |\n| 17.grid | sf1-a | R |   |\n| 18.grid | sf1-b | F | 3 |\n"
    assert listed_jobs(table, commands.listed) == [
        CloudJob(id="17.grid", name="sf1-a", state="R"),
        CloudJob(id="18.grid", name="sf1-b", state="F", exit_code=3),
    ]
    assert listed_jobs("", commands.listed) == []
    assert commands.info is None
    assert commands.ids_joined_by == " "


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("name = Grid", "", "[cloud] name is missing"),
        ("name = Grid", "name = Grid\nbase = slurm", "[cloud] base = slurm; the only one there is to build on is ngc"),
        ("name = Grid", "name = Grid\npoll_s = soon", "[cloud] poll_s = soon is no number"),
        ("name = Grid", "name = Grid\ntransient = (", "[cloud] transient is no regular expression"),
        ("name = Grid", "nmae = Grid", "unknown key 'nmae' in [cloud]. Did you mean 'name'?"),
        ("[submit]", "[sumbit]", "unknown section [sumbit]. Did you mean 'submit'?"),
        ("(?P<id>[\\w.]+)", "(.*)", "[submit] regex lacks a group (?P<id>...)"),
        ("command = gridctl ls", "", "[list] command is missing"),
        ("command = gridctl ls", "command = gridctl ls | grep me", "[list] command, line 1 of the command: no shell"),
        ("{{ ids }}", "", "[kill] command lacks {{ ids }}"),
        ("ids_joined_by = space", "", "[kill] {{ ids }} needs ids_joined_by"),
        ("failed = F E", "failed = F R", "[states] R is both running and failed"),
        ("succeeded = D", "", "[states] succeeded is missing"),
        ("[states]", "[states]\n[states]", "section 'states' already exists"),
        ("[cloud]", "cloud", "no section headers"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(old: str, new: str, says: str) -> None:
    assert old in TABLE
    with pytest.raises(UsageError) as caught:
        parse(TABLE.replace(old, new))
    assert says in str(caught.value)
    assert str(caught.value).startswith("--ngc_commands=x.ini")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--ngc_commands=.*none.ini: No such file or directory"):
        read_commands(str(tmp_path / "none.ini"))


def entry(**status: Any) -> dict[str, Any]:
    return {"id": 7, "jobDefinition": {"name": "sf-a"}, "jobStatus": {"status": "FAILED", **status}}


def test_jobs_in_json() -> None:
    listed = ngc().listed
    full = entry(
        statusDetails="exited\nwith 3", exitCode=3, startedAt="2026-01-02T03:04:05.000Z", endedAt="2026-01-02T03:04:06Z"
    )
    (job,) = listed_jobs(json.dumps([full]), listed)
    assert job == CloudJob(
        id="7",
        name="sf-a",
        state="FAILED",
        details="exited with 3",
        exit_code=3,
        started=1767323045.0,
        ended=1767323046.0,
    )
    assert one_job(json.dumps(entry()), listed) == CloudJob(id="7", name="sf-a", state="FAILED")
    broken = [entry(startedAt="yesterday", exitCode="?"), {"id": None}, {"id": 8, "jobStatus": None}, "text", None]
    assert listed_jobs(json.dumps(broken), listed) == [CloudJob(id="7", name="sf-a", state="FAILED")]
    assert listed_jobs("[]", listed) == listed_jobs("", listed) == []
    assert one_job("[]", listed) is None


def test_times_as_numbers() -> None:
    answer = Answer(paths={"id": "i", "state": "s", "started": "a", "ended": "b"}, jobs="x.jobs")
    (job,) = listed_jobs('{"x": {"jobs": [{"i": "1", "s": "R", "a": 1700000000000, "b": 1700000001.5}]}}', answer)
    assert (job.started, job.ended) == (1700000000.0, 1700000001.5)
    assert listed_jobs('{"x": {}}', answer) == []


@pytest.mark.parametrize("text", ["no json", "3", '"text"', "{"])
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(AnswerError):
        listed_jobs(text, ngc().listed)


@pytest.mark.parametrize("text", ["", "{}", '{"id": null}', '{"id": ""}', '{"id": {"a": 1}}', '{"id": true}', "<html>"])
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(AnswerError):
        submitted_id(text, ngc().submitted)


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
    patience = Patience("it fails", "it works", 5.0)
    waits = []
    now = 0.0
    for _ in range(9):
        patience.failed(now, "boom")
        patience.failed(now, "another that ran at the same time")
        waits.append(patience.until - now)
        now = patience.until
    assert waits == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0]
    patience.answered()
    patience.answered()
    assert [remark.text for remark in patience.remarks()] == [
        "it fails: boom; submitted jobs go on, trying again ever later",
        "it works",
    ]
    assert not patience.waits(now)
    assert patience.remarks() == []
