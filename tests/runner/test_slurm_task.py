"""The wrapper on the node, without a Slurm around it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sf_runner.backends.slurm.batches import BatchHeader, BatchPaths, TaskJob, write_batch
from sf_runner.linux.kernel import process_stat
from tests.runner.harness import ROOT, wait_gone, wait_until

# The program as it is, but for how long it waits for signals: for ever, or not at all.
PROGRAM = """\
import sys
from sf_runner.backends.slurm import task, task_records

task._FORWARD_AFTER_S = {wait_s}
task_records.BEAT_S = {beat_s}
sys.exit(task.main())
"""
HEADER = BatchHeader(run_id=uuid.uuid4().hex, num_tasks=1)


class TaskUnderTest:
    """One start of one task with one experiment, a shell script."""

    def __init__(self, folder: Path, wait_s: float, beat_s: float) -> None:
        """Programs in `folder` come before those on PATH."""
        self.folder = folder
        self.batch = BatchPaths(root=folder / "0001")
        slurm = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "0"}
        path = f"{folder}:{os.environ['PATH']}"
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, **slurm}
        program = PROGRAM.format(wait_s=wait_s, beat_s=beat_s)
        self.process = subprocess.Popen([sys.executable, "-c", program, str(self.batch.root)], env=environ, cwd=folder)

    def records(self, kind: str) -> list[dict[str, Any]]:
        path = self.batch.records(0)
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in map(json.loads, lines) if line["e"] == kind]


@contextmanager
def task_under_test(
    folder: Path, script: str, *, wait_s: float = 1.0, header: BatchHeader = HEADER, beat_s: float = 15.0
) -> Iterator[TaskUnderTest]:
    job = TaskJob(job="a", attempt=1, argv=["sh", "-c", script], env={}, folder=str(folder / "a" / "job"))
    write_batch(BatchPaths(root=folder / "0001"), header, [[job]], "")
    task = TaskUnderTest(folder, wait_s, beat_s)
    try:
        yield task
    finally:
        if task.process.poll() is None:
            task.process.terminate()
            task.process.wait(60)


@pytest.mark.parametrize("ending", ["kill -TERM $$", "exit 143"])
def test_term_that_reaches_an_experiment_first_is_still_slurms(tmp_path: Path, ending: str) -> None:
    with task_under_test(tmp_path, ending, wait_s=3600) as task:
        wait_until("the experiment's end", (tmp_path / "a" / "job" / "exit.json").exists)
        assert task.records("end") == []
        task.process.send_signal(signal.SIGTERM)
        task.process.wait(60)
        assert [line["told"] for line in task.records("end")] == ["term"]


@pytest.mark.parametrize(("ending", "code"), [("kill -TERM $$", 143), ("exit 143", 143), ("exit 1", 1), ("true", 0)])
def test_without_it_an_experiment_ended_by_itself(tmp_path: Path, ending: str, code: int) -> None:
    with task_under_test(tmp_path, ending, wait_s=0) as task:
        assert task.process.wait(60) == code
        assert [line["told"] for line in task.records("end")] == [""]


def test_only_what_term_may_have_ended_is_waited_for(tmp_path: Path) -> None:
    with task_under_test(tmp_path, "exit 1", wait_s=3600) as task:
        assert task.process.wait(60) == 1


def test_it_asks_for_its_own_task_not_for_the_array(tmp_path: Path) -> None:
    """The last task of an array has the array's job id: a requeue of that would end all of its tasks."""
    answers_once = "test -e once && exit 1; touch once; echo 0:01"
    for program, then in (("squeue", answers_once), ("scontrol", "kill -TERM $PPID")):
        (tmp_path / program).write_text(f"#!/bin/sh\necho {program} $* >> asked\n{then}\n")
        (tmp_path / program).chmod(0o755)
    header = replace(HEADER, asks_end=True, signal_ahead_s=3600.0)
    with task_under_test(tmp_path, "sleep 3600", header=header) as task:
        task.process.wait(60)
        assert [line["error"] for line in task.records("requeue")] == [""]
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == ["squeue -h -j 7_0 -o %L"] * 2 + ["scontrol requeue 7_0"], "the limit may have been extended"


def test_what_it_keeps_to_hear_of_signals_ends_with_it_however_it_ends(tmp_path: Path) -> None:
    with task_under_test(tmp_path, "until test -e finish; do sleep 0.05; done") as task:
        wait_until("the experiment", lambda: task.records("start"))
        pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        stats = {pid: process_stat(pid) for pid in pids}
        children = [pid for pid, stat in stats.items() if stat is not None and stat.parent == task.process.pid]
        assert len(children) == 2
        task.process.kill()
        task.process.wait(60)
        (tmp_path / "finish").touch()
        wait_gone(children)


def test_a_wrapper_that_was_replaced_ends_its_experiment_and_says_nothing(tmp_path: Path) -> None:
    """Slurm had lost sight of the node, and has started the task elsewhere."""
    with task_under_test(tmp_path, "trap '' TERM; until test -e finish; do sleep 0.05; done", beat_s=0.05) as task:
        wait_until("the experiment", lambda: task.records("start"))
        pid = task.records("start")[0]["pid"]
        with task.batch.records(0).open("a") as file:
            file.write('{"e":"begin","t":1.0,"n":2,"array":"7","node":"n2"}\n')
        assert task.process.wait(60) != 0
        wait_gone([pid])
        assert task.records("end") == []
