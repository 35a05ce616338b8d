"""What must be done once: an array per batch, a task per attempt, whatever Slurm took twice or late."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sf_runner.backends.slurm.batches import (
    ABANDONED,
    BatchHeader,
    BatchPaths,
    TaskJob,
    claim,
    read_claim,
    write_batch,
)
from sf_runner.backends.slurm.finding import close_attempts
from sf_runner.backends.slurm.task_records import TaskHistory, read_history
from tests.runner.harness import ROOT

RACER = """\
import sys
from pathlib import Path
from sf_runner.backends.slurm.batches import claim
sys.stdin.read()
print(claim(Path(sys.argv[1]), sys.argv[2]))
"""


def test_of_many_that_claim_at_once_all_are_told_the_same(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    racers = [
        subprocess.Popen(
            [sys.executable, "-S", "-c", RACER, str(tmp_path / "claim"), f"racer {number}"],
            env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(6)
    ]  # fmt: skip
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.close()
    told = set()
    for racer in racers:
        assert racer.stdout is not None
        told.add(racer.stdout.read().strip())
        racer.stdout.close()
        racer.wait()
    assert told == {read_claim(tmp_path / "claim")}
    assert [path.name for path in tmp_path.iterdir()] == ["claim"], "no drafts are left"


def test_it_works_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_link)
    assert claim(tmp_path / "c", "a") == "a"
    assert claim(tmp_path / "c", "b") == "a"
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_batch_is_given_up_or_has_an_array_never_both(tmp_path: Path) -> None:
    batch = make_batch(tmp_path)
    assert batch.array_id() == ""
    assert batch.abandon() == ""
    assert batch.own("7") == ABANDONED
    assert batch.is_abandoned()
    late = make_batch(tmp_path, "0002")
    assert late.own("7") == "7"
    assert late.abandon() == "7", "its first task was faster"
    assert late.array_id() == "7"
    assert not late.is_abandoned()


@pytest.mark.parametrize(
    ("answer", "array"),
    [
        ("17\n", "17"),
        ("17;cluster\n", "17"),
        ("*** maintenance on 24 December ***\n17\n", "17"),
        ("17;c\nYour fair share is used up\n", "17"),
        ("Submitted batch job 17\n", "17"),
        ("Submitted batch job 17 on cluster c\n", "17"),
        ("", ""),
        ("never submitted\n", ""),
    ],
)
def test_the_id_is_found_in_what_sbatch_prints(tmp_path: Path, answer: str, array: str) -> None:
    batch = make_batch(tmp_path)
    batch.answer.write_text(answer)
    assert batch.array_id() == array


def test_of_two_arrays_of_one_batch_one_runs_its_experiments(tmp_path: Path) -> None:
    batch = make_batch(tmp_path)
    assert run_task(batch, "7") == 0
    assert run_task(batch, "8") == 75
    assert (tmp_path / "ran").read_text() == "1\n"
    assert batch.array_id() == "7"


def test_of_two_batches_with_one_attempt_one_runs_it(tmp_path: Path) -> None:
    first, second = make_batch(tmp_path, "0001"), make_batch(tmp_path, "0002")
    assert run_task(second, "8") == 0
    assert run_task(first, "7") == 0
    assert (tmp_path / "ran").read_text() == "1\n"
    end = history(first).jobs["a"].ends[1]
    assert (end.reason, end.by["batch"], end.by["task"]) == ("taken", "0002", 0)
    assert run_task(first, "7") == 0, "it is not its to run when it is queued again either"
    assert (tmp_path / "ran").read_text() == "1\n"


def test_an_attempt_that_the_runner_gave_up_is_not_started_any_more(tmp_path: Path) -> None:
    batch = make_batch(tmp_path)
    assert close_attempts(batch, "r", {0: [("a", 1, False)]}) == frozenset()
    assert run_task(batch, "7") == 0
    assert not (tmp_path / "ran").exists()
    other = make_batch(tmp_path, "0002", attempt=2)
    assert run_task(other, "8") == 0
    assert close_attempts(other, "r", {0: [("a", 2, False)]}) == frozenset({0}), "it has been started meanwhile"
    assert close_attempts(other, "r", {0: [("a", 2, True)]}) == frozenset()


def test_a_task_that_was_killed_as_it_began_may_start_when_it_is_queued_again(tmp_path: Path) -> None:
    batch = make_batch(tmp_path)
    batch.claim_attempt("r", "a", 1, {"array": "7", "task": 0, "batch": "0001"})
    assert run_task(batch, "7") == 0
    assert (tmp_path / "ran").read_text() == "1\n"


def make_batch(folder: Path, name: str = "0001", attempt: int = 1) -> BatchPaths:
    batch = BatchPaths(root=folder / "slurm" / name)
    script = f"echo $SF_RUNNER_ATTEMPT >> {folder}/ran"
    job = TaskJob(job="a", attempt=attempt, argv=["sh", "-c", script], env={}, folder=str(folder / "a" / "job"))
    write_batch(batch, BatchHeader(run_id="r", num_tasks=1), [[job]], "")
    return batch


def run_task(batch: BatchPaths, array: str) -> int:
    slurm = {"SLURM_JOB_ID": array, "SLURM_ARRAY_JOB_ID": array, "SLURM_ARRAY_TASK_ID": "0"}
    command = [sys.executable, "-m", "sf_runner.backends.slurm.task", str(batch.root)]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT), **slurm}, check=False).returncode


def history(batch: BatchPaths) -> TaskHistory:
    found = TaskHistory()
    read_history(batch.records(0), found)
    return found
