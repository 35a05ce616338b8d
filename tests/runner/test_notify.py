"""The notification command: when it runs, what it is told, and what is told of it."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from sf_runner.basics.errors import UsageError
from sf_runner.cli.options import parse
from sf_runner.engine.notify import Notifier, hook_environment
from tests.runner import tui_runs as runs
from tests.runner.pty_run import ROOT, prepare
from tests.runner.tui_runs import NOW, middle, name_of, view_of

WRITE = "env | grep ^SF_RUNNER_ | sort > told.$SF_RUNNER_EVENT"


def finish(notifier: Notifier, seconds: float = 30.0) -> list[str]:
    """What it says until its commands have ended."""
    said: list[str] = []
    deadline = time.monotonic() + seconds
    while notifier._hooks:
        assert time.monotonic() < deadline, "the command does not end"
        said += notifier.took((), view_of(middle()).state)
        time.sleep(0.01)
    return said


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs.run_paths(tmp_path).runner_dir.mkdir(parents=True)


def notifier(command: str, *on: str, **more: bool) -> Notifier:
    return Notifier(command, on or ("first_failure", "end"), runs.run_paths(Path.cwd()), **more)  # type: ignore[arg-type]


def told(event: str) -> dict[str, str]:
    lines = Path(f"told.{event}").read_text().splitlines()
    return dict(line.removeprefix("SF_RUNNER_").split("=", 1) for line in lines if "=" in line)


def test_the_first_failure_is_told_once() -> None:
    state = view_of(middle()).state
    failure = runs.ended(3, NOW, 10.0, cause=runs.NAN)
    log = runs.run_paths(Path.cwd()).job(name_of(3)).attempt_log(1)
    log.parent.mkdir(parents=True)
    log.touch()
    hook = notifier(WRITE)
    assert hook.took([runs.ended(0, NOW, 1.0)], state) == []
    assert not hook._hooks, "a success is nothing to tell"
    retry = runs.retried(4, NOW, 1.0, not_before=NOW, cause=runs.OOM)
    assert hook.took([retry], state) == []
    assert not hook._hooks, "it is tried again: nothing has failed yet"
    assert hook.took([failure], state) == []
    assert finish(hook) == []
    found = told("first_failure")
    assert found["EVENT"] == "first_failure"
    assert found["RUN"] == "walker_study"
    assert found["FAILED_JOB"] == name_of(3)
    assert found["FAILED_CAUSE"] == runs.NAN.summary
    assert found["FAILED_LOG"] == str(log)
    assert (found["TOTAL"], found["SUCCEEDED"], found["FAILED"], found["RUNNING"]) == ("15", "3", "1", "4")
    hook.took([failure], state)
    assert not hook._hooks, "only the first"


@pytest.mark.parametrize("hook", [notifier(WRITE, "end"), notifier(WRITE, failure_told=True)])
def test_no_failure_is_told_that_is_not_asked_for_or_was_told_before(hook: Notifier) -> None:
    hook.took([runs.ended(3, NOW, 10.0, cause=runs.NAN)], view_of(middle()).state)
    assert not hook._hooks


def test_the_end_is_told_with_the_summary() -> None:
    state = view_of(runs.finished(failed=True)).state
    write = WRITE + '; printf %s "$SF_RUNNER_SUMMARY" > summary'
    assert notifier(write).ended(state, 1, ["run walker_study: 4 of 6", "  2 x ValueError"]) == []
    found = told("end")
    assert found["TITLE"] == "walker_study: 4 of 6 experiments succeeded, 2 failed"
    assert found["EXIT_CODE"] == "1"
    assert Path("summary").read_text() == "run walker_study: 4 of 6\n  2 x ValueError"
    Path("told.end").unlink()
    assert notifier(WRITE, "first_failure").ended(state, 1, []) == []
    assert not Path("told.end").exists()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("echo sending; exit 7", "--notify_command (end) failed with exit code 7: sending"),
        ("no_such_program", "--notify_command (end) failed with exit code 127"),
        ("kill -9 $$", "--notify_command (end) failed with signal 9"),
        ("true", ""),
    ],
)
def test_a_command_that_fails_is_told_in_one_line(command: str, said: str) -> None:
    found = notifier(command).ended(view_of(runs.finished(failed=False)).state, 0, [])
    assert len(found) == bool(said)
    assert not found or (found[0].startswith(said) and "\n" not in found[0] and "notify.log" in found[0])


def test_a_command_that_does_not_end_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sf_runner.engine.notify._COMMAND_S", 0.05)
    hook = notifier("exec sleep 60")
    (text,) = hook.ended(view_of(runs.finished(failed=False)).state, 0, [])
    assert "is still running" in text
    process = hook._hooks[0].process
    assert process.poll() is None
    process.kill()
    process.wait()


def test_a_run_directory_that_cannot_be_written() -> None:
    paths = runs.run_paths(Path.cwd())
    paths.notify_log.mkdir()
    (text,) = notifier("true").ended(view_of(runs.finished(failed=False)).state, 0, [])
    assert "could not be started: Is a directory" in text


def test_texts_of_any_length_fit_into_the_environment() -> None:
    state = view_of(middle()).state
    env = hook_environment("end", {"SUMMARY": "x" * 10**6 + "\0"}, state, runs.run_paths(Path.cwd()), 1.0)
    subprocess.run(["true"], env=env, check=True)
    assert len(env["SF_RUNNER_SUMMARY"]) == 60_000


def test_the_flags() -> None:
    assert parse(["--run=x"]).notify_command is None
    assert parse(["--run=x", "--notify_command=c"]).notify_on == ("first_failure", "end")
    assert parse(["--run=x", "--notify_command=c", "--notify_on=end"]).notify_on == ("end",)
    assert parse(["--run=x", "--notify_command=c", "--notify_on=end, first_failure"]).notify_on == (
        "first_failure",
        "end",
    )
    for flags, error in (
        (["--notify_on=end"], "--notify_command=COMMAND is missing"),
        (["--notify_command=c", "--notify_on=first_fail"], "Did you mean 'first_failure'?"),
        (["--notify_command=c", "--notify_on="], "--notify_on is empty"),
    ):
        with pytest.raises(UsageError, match=error.replace("?", "[?]")):
            parse(["--run=x", *flags])


def test_a_whole_run_tells_both(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    hook = f"cd {tmp_path} && {WRITE}; echo oops >&2; test $SF_RUNNER_EVENT = end"
    result = subprocess.run(
        [*prepare(tmp_path), "--ui=plain", f"--notify_command={hook}"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    assert "b is broken" in told("first_failure")["FAILED_CAUSE"]
    assert told("end")["TITLE"] == "demo: 3 of 4 experiments succeeded, 1 failed"
    assert told("end")["EXIT_CODE"] == "1"
    # Told during the run or after it, whichever comes first.
    assert result.stdout.count("warning: --notify_command (first_failure) failed with exit code 1: oops") == 1
    assert "(end) failed" not in result.stdout
