"""Slurm's answers bent by variables, by a site's commands, by a controller that is late: nothing runs twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.runner.slurm_cluster import SlurmCluster
from tests.runner.slurm_runs import SlurmRun, slurm_run

pytestmark = pytest.mark.slurm

APPENDS = "echo $0 >> ran; sleep 1"


def appending(count: int) -> str:
    return f"Experiment('e', ['sh', '-c', {APPENDS!r}], [{{'i': i}} for i in range({count})])"


def each_ran_once(run: SlurmRun, count: int) -> None:
    ran = Counter((run.folder / "ran").read_text().split())
    assert sum(ran.values()) == len(ran) == count, ran


def put_before(run: SlurmRun, name: str, script: str) -> None:
    """A command of the site's own in front of Slurm's, which it can call as $REAL."""
    folder = run.folder / "site"
    folder.mkdir(exist_ok=True)
    real = next(path for part in run.cluster.environ["PATH"].split(":") if (path := Path(part) / name).exists())
    (folder / name).write_text(f"#!/bin/bash\nREAL={real}\n{script}\n")
    (folder / name).chmod(0o755)
    run.before_path = f"{folder}:"


def test_variables_that_hide_jobs_hide_none_from_the_runner(tmp_path: Path, cluster: SlurmCluster) -> None:
    hiding = {
        "SQUEUE_PARTITION": "urgent", "SQUEUE_STATES": "COMPLETED", "SQUEUE_USERS": "nobody", "SQUEUE_ACCOUNT": "none",
        "SQUEUE_FORMAT": "%i", "SACCT_FORMAT": "User", "SLURM_TIME_FORMAT": "relative", "SLURM_BITSTR_LEN": "3",
        "SCANCEL_INTERACTIVE": "1", "SCANCEL_PARTITION": "urgent", "SBATCH_JOB_NAME": "other", "SBATCH_HOLD": "1",
    }  # fmt: skip
    with slurm_run(tmp_path, cluster, appending(4)) as run:
        run.start("--slurm_partition=main", env={**hiding, "SBATCH_PARTITION": "nowhere"})
        assert run.finish() == 0, run.printed()
        each_ran_once(run, 4)
        assert "squeue does not show" not in run.printed()
        assert len(run.arrays()) == 1


def test_a_squeue_that_shows_nothing_makes_nothing_run_twice(tmp_path: Path, cluster: SlurmCluster) -> None:
    with slurm_run(tmp_path, cluster, appending(4)) as run:
        put_before(run, "squeue", "exit 0")
        run.start("--max_parallel=2")
        assert run.finish() == 0, run.printed()
        each_ran_once(run, 4)
        assert run.printed().count("squeue does not show job") == 1
        assert [record.attempts for record in run.state.jobs.values()] == [1] * 4
