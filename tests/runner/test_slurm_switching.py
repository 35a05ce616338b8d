"""One run, one journal, two backends: never the same experiment twice at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from sf_runner.state import events as ev
from sf_runner.state.jobs import Running, Succeeded
from tests.runner.harness import wait_until
from tests.runner.slurm_cluster import SlurmCluster
from tests.runner.slurm_runs import slurm_run

pytestmark = pytest.mark.slurm


def test_a_run_goes_from_here_to_slurm_and_back(tmp_path: Path, cluster: SlurmCluster) -> None:
    with slurm_run(tmp_path, cluster) as run:
        run.describe(*[run.waiting(name) for name in "abcd"])
        slurm, local = run.base_flags, ["--num_gpus=0", "--ui=plain", "--max_parallel=1"]
        run.base_flags = local
        run.finish_waiting("a")
        first = run.start()
        run.wait_for("b", Running)
        run.base_flags = slurm
        second = run.start("--train_dir", str(run.paths.train_dir))
        assert second.wait() == 3, "the run has a runner"
        first.terminate()
        first.wait()
        run.start("--detach")
        assert run.finish() == 0
        wait_until("three to run", lambda: sum(state == "RUNNING" for _, state in cluster.jobs()) == 3)
        run.base_flags = local
        run.output.unlink()
        run.start()
        assert run.finish() == 2
        assert "3 experiment(s) of run 'chaos' still wait or run with --runner=slurm, e.g. 'b_/00_b'" in run.printed()
        for name in "bc":
            run.finish_waiting(name)
        cancelled = run.tool_process("cancel", run.job("d").job_id, "--grace=5")
        assert cancelled.returncode == 0, cancelled.stderr
        wait_until("Slurm to be empty", lambda: not cluster.jobs())
        run.finish_waiting("d")
        run.start("--retry_cancelled")
        assert run.finish() == 0
        assert all(isinstance(record.state, Succeeded) for record in run.state.jobs.values())
        assert [record.attempts for record in run.state.jobs.values()] == [1, 2, 1, 2]
        backends = [event.backend for event in run.read_events(ev.RunOpened)]  # type: ignore[attr-defined]
        assert set(backends) == {"processes", "slurm"}


def test_what_happens_without_a_runner_is_seen_from_outside(tmp_path: Path, cluster: SlurmCluster) -> None:
    with slurm_run(tmp_path, cluster) as run:
        run.describe(*[run.waiting(name) for name in "abc"])
        run.start("--detach", "--max_parallel=2")
        assert run.finish() == 0
        run.finish_waiting("a")
        size = run.paths.journal.stat().st_size
        wait_until("a to be shown as done", lambda: "1 of 3 succeeded" in run.tool("status").stdout)
        wait_until("c to run", lambda: "2 left running" in run.tool("status").stdout)
        assert "they go on without a runner" in run.tool("status").stdout
        run.finish_waiting("b", 4)
        wait_until("b to be shown as failed", lambda: "exit code 4" in run.tool("status").stdout)
        assert run.paths.journal.stat().st_size == size, "looking writes nothing"
        run.finish_waiting("c")
        run.start()
        assert run.finish() == 1
        assert [record.attempts for record in run.state.jobs.values()] == [1, 1, 1]
