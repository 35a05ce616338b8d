"""Two clusters with one accounting: jobs are asked about where they are."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sf_runner.basics.errors import UsageError
from sf_runner.cli.slurm_kind import chosen_cluster
from sf_runner.state.jobs import Cancelled, Running
from tests.runner.harness import shell, wait_until
from tests.runner.slurm_cluster import SlurmCluster
from tests.runner.slurm_runs import SlurmRun, slurm_run

Clusters = tuple[SlurmCluster, SlurmCluster]


@pytest.fixture(scope="module")
def other(strict_cluster: SlurmCluster) -> Iterator[SlurmCluster]:
    with SlurmCluster(nodes=1, name="other", beside=strict_cluster) as cluster:
        yield cluster


@pytest.fixture
def clusters(strict_cluster: SlurmCluster, other: SlurmCluster) -> Iterator[Clusters]:
    yield strict_cluster, other
    for cluster in (strict_cluster, other):
        cluster.clear()


def wait_for_other(run: SlurmRun) -> None:
    """A new cluster is known everywhere a moment after its controller is up."""
    asks = ["sbatch", "--test-only", "-M", "other", "--wrap=true"]
    wait_until("the other cluster to be known", lambda: "rror" not in run.cluster.run(*asks, check=False))


@pytest.mark.slurm
@pytest.mark.slow
@pytest.mark.parametrize("how", ["flag", "variable"])
def test_what_runs_elsewhere_is_watched_queued_again_and_cancelled_there(
    tmp_path: Path, clusters: Clusters, how: str
) -> None:
    here, other = clusters
    flags = ["--slurm_args=--clusters=other"] if how == "flag" else []
    env = {"SLURM_CLUSTERS": "other"} if how == "variable" else {}
    again = "echo $SLURM_CLUSTER_NAME $SF_RUNNER_ATTEMPT >> where; test $SF_RUNNER_ATTEMPT = 2 || sleep 60"
    with slurm_run(tmp_path, here, shell("a", again)) as run:
        wait_for_other(run)
        # What it prints is not the same each time, so its time may be over again and again.
        run.describe(shell("a", again), shell("b", "echo $SF_RUNNER_ATTEMPT; sleep 60"))
        run.start(*flags, "--slurm_timeout=3", env=env)
        run.wait_for("a", Running)
        assert here.jobs() == []
        assert len(other.jobs()) == 2
        assert run.process is not None
        os.kill(run.runner, signal.SIGKILL)
        run.process.wait()
        run.start("--slurm_timeout=3")  # without the flag: those that are there are found there all the same
        run.wait("a to have ended", lambda state: state.count("Succeeded") == 1, timeout_s=120)
        run.cancel("b")
        run.wait_for("b", Cancelled, alive=False)
        assert run.finish() == 1
        assert (tmp_path / "where").read_text().splitlines() == ["other 1", "other 2"]
        assert other.jobs() == []
        assert len(run.arrays()) == 1


def test_where_jobs_go_is_known_or_refused() -> None:
    environ = {"SBATCH_CLUSTERS": "b", "SLURM_CLUSTERS": "c"}
    template = "#!/bin/bash\n#SBATCH -M d\n#SBATCH --clusters=e\n"
    assert chosen_cluster(["--clusters=a"], template, environ) == "a"
    assert chosen_cluster(["-M", "a"], "", {}) == "a"
    assert chosen_cluster([], template, environ) == "b"
    assert chosen_cluster([], template, {"SLURM_CLUSTERS": "c"}) == "c"
    assert chosen_cluster([], template, {}) == "e"
    assert chosen_cluster([], "", {}) == ""
    with pytest.raises(UsageError, match="SLURM_CLUSTERS: clusters 'a,b': name one"):
        chosen_cluster([], "", {"SLURM_CLUSTERS": "a,b"})
    with pytest.raises(UsageError, match="--slurm_args: clusters 'all': name one"):
        chosen_cluster(["-M", "all"], "", {})
