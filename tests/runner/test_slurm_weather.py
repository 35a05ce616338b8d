"""A real Slurm in bad weather: limits, preemption, commands that fail, come late, are done twice or give an old answer,
and a runner that is killed. Each experiment succeeds exactly once, and nothing is left in the queue."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.runner.harness import wait_until
from tests.runner.slurm_cluster import SlurmCluster
from tests.runner.slurm_front import put_up
from tests.runner.slurm_runs import SlurmRun, slurm_run

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

# An attempt that is ended on the way leaves nothing. Whoever gets to its end says so, in its progress file as well,
# because TERM may come then. The lock shows any overlap.
SCRIPT = """\
exec 9> lock_$0; flock -n 9 || echo overlap $0 $SF_RUNNER_ATTEMPT >> overlaps
trap 'exit 143' TERM
for i in 1 2 3 4 5; do sleep 0.2; done
test $SF_RUNNER_ATTEMPT = 1 && case $0 in *7) exit 3;; esac
trap '' TERM
echo $0 >> done
echo '{"phase": "done"}' > progress_$0 && mv progress_$0 "$SF_RUNNER_PROGRESS_FILE"
"""


@pytest.fixture(scope="module")
def clusters() -> Iterator[tuple[SlurmCluster, SlurmCluster]]:
    """Two, with accounting and limits; a user may have 30 jobs in each."""
    here = SlurmCluster(limits=True, cpus=6, max_array_size=25)
    with here, SlurmCluster(limits=True, cpus=6, max_array_size=25, name="other", beside=here) as other:
        here.run("sacctmgr", "-i", "modify", "user", "root", "set", "maxsubmitjobs=30")
        yield here, other


@pytest.mark.parametrize("seed", range(20))
def test_each_of_forty_succeeds_once_and_nothing_is_left(
    tmp_path: Path, clusters: tuple[SlurmCluster, SlurmCluster], seed: int
) -> None:
    here, other = clusters
    grid = f"Experiment('e', ['sh', '-c', {SCRIPT!r}], [{{'i': i}} for i in range(40)])"
    with slurm_run(tmp_path, here, grid) as run:
        put_up(tmp_path / "front", here.environ["PATH"], seed)
        run.before_path = f"{tmp_path / 'front'}:"
        flags = ["--max_parallel=8", "--max_retries=1", "--retry_delay=1", "--slurm_partition=main"]
        if elsewhere := seed % 3 == 2:
            flags.append("--slurm_args=--clusters=other")
        run.start(*flags)
        weather(run, other if elsewhere else here, random.Random(seed), flags)
        (tmp_path / "front" / "seed").write_text("")  # the sun comes out
        assert run.finish(timeout_s=300) == 0, run.printed()
        done = Counter((tmp_path / "done").read_text().split())
        assert sorted(done) == sorted(f"i={i}" for i in range(40))
        assert set(done.values()) == {1}, done
        assert not (tmp_path / "overlaps").exists(), (tmp_path / "overlaps").read_text()
        wait_until("Slurm to be empty", lambda: not here.jobs() + other.jobs())
        other.clear()


def weather(run: SlurmRun, cluster: SlurmCluster, rng: random.Random, flags: list[str]) -> None:
    """Preempt, and kill the runner, until most has been done."""
    deadline = time.monotonic() + 120
    while run.read().count("Succeeded") < 25 and time.monotonic() < deadline:
        assert run.process is not None
        if run.process.poll() is not None and run.read().finished:
            return
        event = rng.random()
        if event < 0.15:
            urgent = ["sbatch", "--parsable", "-p", "urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 1"]
            cluster.run(*urgent, check=False)
        elif event < 0.25:
            with suppress(OSError, AssertionError, IndexError):
                os.kill(run.guardian, signal.SIGKILL)
            run.process.wait()
            run.start(*flags)
        elif event < 0.35:
            for job in cluster.run("squeue", "-h", "-r", "-t", "RUNNING", "-p", "main", "-o", "%i").split()[:1]:
                cluster.run("scontrol", "requeue", job, check=False)
        time.sleep(rng.random() * 3)
