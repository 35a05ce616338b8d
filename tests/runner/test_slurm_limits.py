"""A Slurm that enforces limits: on submitted jobs, on arrays, on time."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sf_runner.state.jobs import Waiting
from tests.runner.harness import wait_until
from tests.runner.slurm_cluster import SlurmCluster
from tests.runner.slurm_runs import SlurmRun, slurm_run

pytestmark = pytest.mark.slurm


@pytest.fixture
def limited(strict_cluster: SlurmCluster) -> Iterator[SlurmCluster]:
    """At most three jobs of a user are queued or run."""
    strict_cluster.run("sacctmgr", "-i", "modify", "user", "root", "set", "maxsubmitjobs=3")
    yield strict_cluster
    strict_cluster.clear()
    strict_cluster.run("sacctmgr", "-i", "modify", "user", "root", "set", "maxsubmitjobs=-1")


def numbered(count: int, script: str) -> str:
    return f"Experiment('e', ['sh', '-c', {script!r}], [{{'i': i}} for i in range({count})])"


def waiting(run: SlurmRun) -> int:
    return run.read().count("Waiting")


def test_more_experiments_than_may_be_submitted_all_run_once(tmp_path: Path, limited: SlurmCluster) -> None:
    with slurm_run(tmp_path, limited, numbered(8, "echo $SF_RUNNER_JOB $SF_RUNNER_ATTEMPT >> done")) as run:
        run.start()
        assert run.finish(timeout_s=180) == 0
        done = Counter((tmp_path / "done").read_text().splitlines())
        assert len(done) == 8
        assert set(done.values()) == {1}
        assert all(line.endswith(" 1") for line in done), "what was refused does not count as an attempt"
        assert "Slurm does not take 8 jobs more now: AssocMaxSubmitJobLimit" in run.printed()


def test_what_was_never_submitted_is_not_running(tmp_path: Path, limited: SlurmCluster) -> None:
    with slurm_run(tmp_path, limited) as run:
        run.describe(*[run.waiting(name) for name in "abcdef"])
        first = run.start()
        run.wait("three to run", lambda state: state.count("Running") == 3)
        run.wait("the rest to wait", lambda state: state.count("Waiting") == 3)
        first.send_signal(signal.SIGHUP)
        first.wait()
        assert "letting go; 3 experiments go on running" in run.printed()
        second = run.start()
        run.wait("it to be back", lambda state: len(state.runners) == 2 and state.count("Waiting") == 3)
        second.send_signal(signal.SIGINT)
        for name in "abcdef":
            run.finish_waiting(name)
        assert run.finish() == 130
        assert run.state.count("Succeeded") == 3
        assert "3 of 6 experiments succeeded, 3 did not run" in run.printed()


def test_a_run_of_which_nothing_is_taken_ends_at_the_first_ctrl_c(tmp_path: Path, limited: SlurmCluster) -> None:
    other = ["sbatch", "--parsable", "--array=0-2", "--output=/dev/null", "--wrap=sleep 600"]
    limited.run(*other)
    with slurm_run(tmp_path, limited, numbered(4, "true")) as run:
        process = run.start()
        wait_until("all to wait", lambda: "Slurm takes no more of your jobs at present" in run.printed())
        process.send_signal(signal.SIGINT)
        assert run.finish() == 130
        assert all(isinstance(record.state, Waiting) for record in run.state.jobs.values())
        assert "0 of 4 experiments succeeded, 4 did not run" in run.printed()


def test_submit_and_leave_leaves_once_nothing_more_is_taken(tmp_path: Path, limited: SlurmCluster) -> None:
    with slurm_run(tmp_path, limited) as run:
        run.describe(*[run.waiting(name) for name in "abcd"])
        run.start("--detach")
        assert run.finish() == 0
        assert waiting(run) == 1
        assert "3 experiments are submitted and go on without this command" in run.printed()
        assert "1 is not submitted" in run.printed()


def test_what_a_qos_denies_is_refused_in_one_line(tmp_path: Path, strict_cluster: SlurmCluster) -> None:
    strict_cluster.run("sacctmgr", "-i", "add", "qos", "tight", "set", "maxwall=1", "flags=DenyOnLimit")
    strict_cluster.run("sacctmgr", "-i", "modify", "user", "root", "set", "qos+=tight")
    with slurm_run(tmp_path, strict_cluster, numbered(2, "true")) as run:
        run.start("--slurm_qos=tight", "--slurm_time=5")
        assert run.finish() == 2
        assert "--slurm_time is more than the account or the QOS allows" in run.printed()
        assert "QOSMaxWallDurationPerJobLimit" in run.printed()
