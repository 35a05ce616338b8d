"""Slurm's answers bent by variables, by a site's commands, by a controller that is late: nothing runs twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from sf_runner.state import events as ev
from sf_runner.state.jobs import Cancelled, Failed, Running, Submitted, Succeeded
from tests.runner.harness import shell, wait_until
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


@pytest.mark.slow  # test_slurm_environment.py says what each command sees
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


@pytest.mark.slow
def test_queued_tasks_that_somebody_cancels_are_cancelled(tmp_path: Path, cluster: SlurmCluster) -> None:
    """One of them leaves no trace in the queue, of all of them a line without any index stays."""
    with slurm_run(tmp_path, cluster) as run:
        run.describe(*[run.waiting(name) for name in "abcd"])
        run.start("--max_parallel=1", "--max_retries=2")
        run.wait_for("a", Running)
        (array,) = run.arrays()
        cluster.run("scancel", f"{array}_2")
        run.wait_for("c", Cancelled)
        assert isinstance(run.job("b").state, Submitted)
        cluster.run("scancel", "--state=PENDING", array)
        run.wait_for("b", Cancelled)
        run.wait_for("d", Cancelled)
        run.finish_waiting("a")
        assert run.finish() == 1
        assert isinstance(run.job("a").state, Succeeded)
        assert [record.attempts for record in run.state.jobs.values()] == [1] * 4
        causes = [event.cause.kind for name in "bcd" for event in run.read_events(ev.AttemptEnded, name)]  # type: ignore[attr-defined]
        assert causes == ["cancelled"] * 3


def test_a_submission_that_is_taken_twice_and_late_runs_once(tmp_path: Path, cluster: SlurmCluster) -> None:
    with slurm_run(tmp_path, cluster, appending(3)) as run:
        put_before(
            run,
            "sbatch",
            'case "$*" in *test-only*) exec $REAL "$@";; esac\n'
            '(sleep 2; $REAL "$@") > /dev/null 2>&1 < /dev/null &\n'
            'if test -e site/tried; then exec $REAL "$@"; fi\n'
            "touch site/tried\n"
            "echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1",
        )
        run.start()
        assert run.finish() == 0, run.printed()
        each_ran_once(run, 3)
        wait_until("Slurm to be empty", lambda: not cluster.jobs())
        each_ran_once(run, 3)


def test_a_killed_sbatch_and_a_banner_lose_nothing(tmp_path: Path, cluster: SlurmCluster) -> None:
    with slurm_run(tmp_path, cluster, appending(2)) as run:
        real = 'case "$*" in *test-only*) exec $REAL "$@";; esac; $REAL "$@" > id'
        killed = "test -e killed || { touch killed; kill -9 $$; }"
        put_before(run, "sbatch", f"echo '*** welcome, 2026 ***'; {real}; {killed}; cat id")
        run.start()
        assert run.finish() == 0, run.printed()
        each_ran_once(run, 2)
        assert (run.slurm_dir / "0001" / "owner").read_text().strip().isdigit()


def test_a_wrapper_that_crashes_fails_its_experiment(tmp_path: Path, cluster: SlurmCluster) -> None:
    template = tmp_path / "template.sh"
    template.write_text("#!/bin/bash\nexport PYTHONPATH=$PWD/broken\n$CMD\n")
    broken = tmp_path / "broken" / "sitecustomize.py"
    broken.parent.mkdir()
    broken.write_text("import atexit, os, sys\nif 'task.py' in ' '.join(sys.orig_argv): os.posix_spawn = None\n")
    with slurm_run(tmp_path, cluster, shell("a", "true")) as run:
        run.start(f"--slurm_sbatch_template={template}", "--max_retries=1", "--retry_delay=0")
        assert run.finish() == 1
        state = run.job("a").state
        assert isinstance(state, Failed)
        assert "TypeError: 'NoneType' object is not callable" in state.cause.summary
        assert run.job("a").attempts == 2
