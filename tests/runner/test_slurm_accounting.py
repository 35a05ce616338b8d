"""Where squeue has forgotten a job of which nobody wrote anything, accounting knows it; without it, it has vanished."""

from __future__ import annotations

from pathlib import Path

import pytest

from sf_runner.state import events as ev
from sf_runner.state.jobs import Cancelled, Succeeded
from tests.runner.harness import wait_until
from tests.runner.slurm_cluster import SlurmCluster
from tests.runner.slurm_runs import slurm_run

# Slurm forgets ended jobs once a minute.
pytestmark = [pytest.mark.slurm, pytest.mark.slow]


@pytest.mark.parametrize("accounting", [True, False])
def test_what_was_cancelled_while_nobody_looked(tmp_path: Path, accounting: bool) -> None:
    cluster = SlurmCluster(accounting=accounting, min_job_age_s=2)
    with cluster, slurm_run(tmp_path, cluster) as run:
        run.describe(*[run.waiting(name) for name in "ab"])
        run.start("--detach", "--max_parallel=1")
        assert run.finish() == 0
        wait_until("a to run", lambda: any(state == "RUNNING" for _, state in cluster.jobs()))
        cluster.run("scancel", f"{run.arrays()[0]}_1")
        run.finish_waiting("a")
        wait_until("all to be forgotten", lambda: not cluster.run("squeue", "-h", "--states=all"), timeout_s=150)
        run.finish_waiting("b")
        run.start()
        code = run.finish()
        assert isinstance(run.job("a").state, Succeeded)
        ended = run.read_events(ev.AttemptEnded, "b")
        if accounting:
            assert code == 1
            assert isinstance(run.job("b").state, Cancelled)
            assert [e.cause.kind for e in ended] == ["cancelled"]  # type: ignore[attr-defined]
        else:
            assert code == 0, "nobody knows what became of it, so it runs"
            assert [e.verdict for e in ended] == ["requeue", "succeeded"]  # type: ignore[attr-defined]
            assert "Slurm no longer knows it" in ended[0].cause.summary  # type: ignore[attr-defined]
