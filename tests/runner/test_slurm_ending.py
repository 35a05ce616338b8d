"""What saves behind a shell in a task of Slurm gets one TERM and its time, whoever ends it."""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sf_runner.linux.kernel import process_stat
from tests.runner import test_slurm_task as wrapper
from tests.runner.harness import wait_until
from tests.runner.test_ending import said, saver


@contextmanager
def saving_task(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[wrapper.TaskUnderTest]:
    """What is left behind without anybody's having ended it has next to no time."""
    program = wrapper.PROGRAM.replace("sys.exit", "task._LEFTOVER_GRACE_S = 0.05\nsys.exit")
    monkeypatch.setattr(wrapper, "PROGRAM", program)
    (folder / "scontrol").write_text("#!/bin/sh\nexit 1\n")
    (folder / "scontrol").chmod(0o755)
    script = f"{shlex.join(saver(folder, 0.7))}; true"
    header = replace(wrapper.HEADER, grace_s=60.0, signal_ahead_s=60.0)
    with wrapper.task_under_test(folder, f"bash -c {shlex.quote(script)}; true", header=header, wait_s=0.5) as task:
        wait_until("it to run", lambda: said(folder))
        yield task
        task.process.wait(60)


def descendants(pid: int) -> list[int]:
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    parents = {each: stat.parent for each in pids if (stat := process_stat(each)) is not None}
    found = [pid]
    for known in found:
        found += [each for each, parent in parents.items() if parent == known]
    return found[1:]


_REAPED = """
def reap(pid, real=task.reap):
    import os
    reaped = real(pid)
    if reaped:
        kill = os.kill
        os.kill = lambda number, signum: open("killed", "a").close() if number == pid else kill(number, signum)
    return reaped
task.reap = reap
"""


def test_a_canary_that_was_reaped_is_not_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrapper, "PROGRAM", wrapper.PROGRAM.replace("sys.exit", f"{_REAPED}sys.exit"))
    with saving_task(tmp_path, monkeypatch) as task:
        for pid in (*descendants(task.process.pid), task.process.pid):
            os.kill(pid, signal.SIGTERM)
    assert not (tmp_path / "killed").exists()


@pytest.mark.parametrize("wrapper_first", [True, False])
def test_term_from_slurm_to_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrapper_first: bool) -> None:
    with saving_task(tmp_path, monkeypatch) as task:
        pids = descendants(task.process.pid)
        if wrapper_first:
            task.process.send_signal(signal.SIGTERM)
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        if not wrapper_first:
            # The shell is dead, and nobody knows yet who has sent TERM.
            wait_until("the shell's end", (tmp_path / "a" / "job" / "exit.json").exists)
            task.process.send_signal(signal.SIGTERM)
    assert said(tmp_path) == ["ready", "term", "saved"]
    assert [line["told"] for line in task.records("end")] == ["term"]


def test_term_from_slurm_to_the_wrapper_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with saving_task(tmp_path, monkeypatch) as task:
        task.process.send_signal(signal.SIGTERM)
    assert said(tmp_path) == ["ready", "term", "saved"]


def test_the_end_of_the_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with saving_task(tmp_path, monkeypatch) as task:
        task.process.send_signal(signal.SIGUSR1)
    assert said(tmp_path) == ["ready", "term", "saved"]
    assert [line["told"] for line in task.records("end")] == ["limit"]


def test_an_order_of_the_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with saving_task(tmp_path, monkeypatch) as task:
        task.batch.orders(0).write_text(json.dumps({"a": {"level": "terminate", "grace_s": 60.0}}))
        task.process.send_signal(signal.SIGUSR2)
    assert said(tmp_path) == ["ready", "term", "saved"]
    assert [line["told"] for line in task.records("end")] == ["order"]
