"""`--max_parallel` on a real Slurm: several arrays, retries, a runner that has left."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runner.harness import wait_until
from tests.runner.slurm_cluster import SlurmCluster
from tests.runner.slurm_runs import SlurmRun, slurm_run

pytestmark = pytest.mark.slurm

COUNTS = "touch run_$$; ls run_* | wc -l >> counts; sleep 0.3; rm run_$$; test $SF_RUNNER_ATTEMPT -gt $0"


def of_three_shapes(failures: int, each: int = 2) -> list[str]:
    return [
        f"Experiment('e{cpus}{i}', ['sh', '-c', {COUNTS!r}, '{failures}'], resources=Resources(cpus={cpus}))"
        for cpus in (1, 2, 3)
        for i in range(each)
    ]


def most_at_once(run: SlurmRun) -> int:
    return max(int(line) for line in (run.folder / "counts").read_text().split())


@pytest.mark.slow  # of many arrays that wait for each other Slurm starts one every few seconds
@pytest.mark.parametrize("limit", [1, 2])
def test_the_limit_holds_across_arrays_and_retries(tmp_path: Path, cluster: SlurmCluster, limit: int) -> None:
    with slurm_run(tmp_path, cluster, *of_three_shapes(failures=1)) as run:
        run.start(f"--max_parallel={limit}", "--max_retries=1", "--retry_delay=0")
        assert run.finish(timeout_s=120) == 0, run.printed()
        assert [record.attempts for record in run.state.jobs.values()] == [2] * 6
        assert len(run.arrays()) > 3
        assert most_at_once(run) <= limit


def test_it_holds_without_a_runner_too(tmp_path: Path, cluster: SlurmCluster) -> None:
    with slurm_run(tmp_path, cluster, *of_three_shapes(failures=0)) as run:
        run.start("--max_parallel=1", "--detach")
        assert run.finish() == 0, run.printed()
        wait_until("Slurm to be empty", lambda: not cluster.jobs())
        assert len((run.folder / "counts").read_text().split()) == 6
        assert most_at_once(run) == 1
