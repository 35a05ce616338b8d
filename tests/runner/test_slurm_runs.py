"""Whole runs on a real Slurm: started, failed, cancelled, retried, killed and continued."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from sf_runner.state import events as ev
from sf_runner.state.jobs import Cancelled, Failed, Running, Stopping, Submitted, Succeeded
from tests.runner.harness import shell, wait_until
from tests.runner.slurm_cluster import SlurmCluster
from tests.runner.slurm_runs import slurm_run

pytestmark = pytest.mark.slurm


@pytest.mark.slow
def test_three_hundred_experiments_with_failures_on_the_gpus_of_two_nodes(
    tmp_path: Path, cluster: SlurmCluster
) -> None:
    script = (
        "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES >> slots; "
        "exec 9>lock_${SLURMD_NODENAME}_$CUDA_VISIBLE_DEVICES; flock -n 9 || exit 9; "
        "case $0 in *7) test $SF_RUNNER_ATTEMPT = 2;; *99) exit 3;; esac"
    )
    grid = f"Experiment('e', ['sh', '-c', {script!r}], [{{'i': i}} for i in range(300)])"
    with slurm_run(tmp_path, cluster, grid) as run:
        run.base_flags.remove("--slurm_gpus_per_job=0")
        run.start("--slurm_gpus_per_job=2", "--slurm_experiments_per_job=20", "--max_retries=1", "--retry_delay=0")
        assert run.finish(timeout_s=240) == 1
        state = run.state
        failed = [record.job_id for record in state.jobs.values() if isinstance(record.state, Failed)]
        assert len(failed) == 3, failed
        assert all("99" in job for job in failed)
        assert state.count("Succeeded") == 297
        attempts = Counter(record.attempts for record in state.jobs.values())
        assert attempts == {1: 267, 2: 33}
        slots = Counter((tmp_path / "slots").read_text().splitlines())
        assert set(slots) <= {"n1 0", "n1 1", "n2 0", "n2 1"}
        assert sum(slots.values()) == 333
        labels = {record.state.attempt for record in state.jobs.values() if isinstance(record.state, Succeeded)}
        assert labels == {1, 2}


def test_cancelling_one_some_and_all(tmp_path: Path, cluster: SlurmCluster) -> None:
    with slurm_run(tmp_path, cluster) as run:
        names = ["a", "b", "c", "d", "e"]
        run.describe(*[run.waiting(name) for name in names])
        run.start("--max_parallel=3", "--grace=5")
        run.wait("three to run", lambda state: state.count("Running") == 3)
        run.cancel("a")
        run.wait_for("a", Cancelled)
        run.wait_for("d", Running)
        run.cancel("e", "b")
        run.wait_for("b", Cancelled)
        run.wait_for("e", Cancelled)
        run.finish_waiting("c")
        run.wait_for("c", Succeeded)
        assert isinstance(run.job("d").state, Running), "the others were left alone"
        run.cancel()
        assert run.finish() == 1
        assert run.state.count("Cancelled") == 4
        wait_until("Slurm to be empty", lambda: not cluster.jobs())


def test_several_experiments_in_a_job_are_cancelled_one_by_one(tmp_path: Path, cluster: SlurmCluster) -> None:
    with slurm_run(tmp_path, cluster) as run:
        run.describe(*[run.waiting(name) for name in "abc"])
        run.start("--slurm_experiments_per_job=3", "--slurm_side_by_side=2", "--grace=5")
        run.wait("two to run", lambda state: state.count("Running") == 2)
        assert isinstance(run.job("c").state, Submitted)
        run.cancel("a")
        run.wait_for("a", Cancelled)
        run.wait_for("c", Running)
        run.finish_waiting("b", 3)
        run.wait_for("b", Failed)
        run.finish_waiting("c")
        assert run.finish() == 1
        assert isinstance(run.job("c").state, Succeeded)
        assert len(run.arrays()) == 1


def test_a_killed_runner_is_continued_without_submitting_anything_again(tmp_path: Path, cluster: SlurmCluster) -> None:
    with slurm_run(tmp_path, cluster) as run:
        run.describe(*[run.waiting(name) for name in "abcd"])
        first = run.start("--max_parallel=3")
        run.wait("three to run", lambda state: state.count("Running") == 3)
        os.kill(run.runner, signal.SIGKILL)
        first.wait()
        run.finish_waiting("a")
        run.finish_waiting("b", 5)
        wait_until("the fourth to run", lambda: sum(s == "RUNNING" for _, s in cluster.jobs()) == 2)
        run.start("--max_parallel=3")
        run.wait_for("a", Succeeded)
        run.wait_for("b", Failed)
        run.wait_for("d", Running)
        second = run.start("--max_parallel=3")
        assert second.wait() == 3, "two runners are refused"
        run.finish_waiting("c")
        run.finish_waiting("d")
        run.wait("the end", lambda state: state.finished, alive=False)
        assert len(run.arrays()) == 1
        assert [record.attempts for record in run.state.jobs.values()] == [1, 1, 1, 1]


def test_submit_and_leave_come_back_and_submit_only_what_is_missing(tmp_path: Path, cluster: SlurmCluster) -> None:
    with slurm_run(tmp_path, cluster) as run:
        run.describe(*[run.waiting(name) for name in "abc"])
        run.start("--detach")
        assert run.finish() == 0
        assert "3 experiments are submitted and go on without this command" in run.printed()
        for name, code in (("a", 0), ("b", 1), ("c", 0)):
            run.finish_waiting(name, code)
        wait_until("Slurm to be empty", lambda: not cluster.jobs())
        run.start()
        assert run.finish() == 1
        assert run.state.count("Succeeded") == 2
        run.finish_waiting("b", 0)
        run.describe(*[run.waiting(name) for name in "abc"], shell("d", "true"))
        run.start("--retry_failed")
        assert run.finish() == 0
        assert [record.attempts for record in run.state.jobs.values()] == [1, 2, 1, 1]
        assert len(run.arrays()) == 2


def test_experiments_left_by_a_detached_runner_are_cancelled_without_one(tmp_path: Path, cluster: SlurmCluster) -> None:
    with slurm_run(tmp_path, cluster) as run:
        run.describe(*[run.waiting(name) for name in "abc"])
        run.start("--detach", "--max_parallel=2")
        assert run.finish() == 0
        wait_until("two to run", lambda: sum(s == "RUNNING" for _, s in cluster.jobs()) == 2)
        done = run.tool_process("cancel", "--grace=5")
        assert done.returncode == 0, done.stderr
        run.read()
        assert run.state.count("Cancelled") == 3
        wait_until("Slurm to be empty", lambda: not cluster.jobs())


def test_one_line_and_exit_code_2_where_it_cannot_work(tmp_path: Path, cluster: SlurmCluster) -> None:
    with slurm_run(tmp_path, cluster, shell("a", "true")) as run:
        run.start("--slurm_partition=nowhere")
        assert run.finish() == 2
        assert "invalid partition" in run.printed()
        assert run.arrays() == []
        run.output.unlink()
        run.start(env={"PATH": "/nowhere"})
        assert run.finish() == 2
        assert run.printed().startswith("error: --runner=slurm: sbatch was not found here")
        assert run.printed().count("\n") == 1


def test_ctrl_c_twice_ends_what_runs_and_the_next_start_goes_on(tmp_path: Path, cluster: SlurmCluster) -> None:
    with slurm_run(tmp_path, cluster) as run:
        run.describe(*[run.waiting(name) for name in "ab"])
        process = run.start("--max_parallel=1", "--grace=5")
        run.wait_for("a", Running)
        process.send_signal(signal.SIGINT)
        run.wait("draining", lambda state: state.draining is not None)
        assert not isinstance(run.job("a").state, Stopping)
        process.send_signal(signal.SIGINT)
        assert run.finish() == 130
        wait_until("Slurm to be empty", lambda: not cluster.jobs())
        for name in "ab":
            run.finish_waiting(name)
        run.start()
        assert run.finish() == 0
        verdicts = [(e.attempt, e.verdict) for e in run.read_events(ev.AttemptEnded, "a")]  # type: ignore[attr-defined]
        assert verdicts == [(1, "requeue"), (2, "succeeded")]
