"""What clusters do to jobs: time limits, preemption, lost nodes, a controller that is gone. On a real Slurm."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path

import pytest

from sf_runner.state import events as ev
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import Cancelled, Failed, Running, Submitted, Succeeded, Waiting
from tests.runner.harness import shell, wait_until
from tests.runner.slurm_cluster import SlurmCluster
from tests.runner.slurm_runs import SlurmRun, slurm_run

pytestmark = pytest.mark.slurm

# Goes on until it was told to save so many times, or until the test ends it: how fast the machine is decides nothing.
TRAINING = """\
n=$(cat {point} 2>/dev/null || echo 0)
trap 'echo $((n+1)) > {point}; echo saved $((n+1)); exit 143' TERM
echo attempt $SF_RUNNER_ATTEMPT from $n
while test $n -lt {saves} && ! test -e finish; do sleep 0.1; done
"""


def training(name: str, saves: int) -> str:
    return shell(name, TRAINING.format(point=f"point_{name}", saves=saves))


def verdicts(run: SlurmRun, name: str) -> list[tuple[int, str]]:
    return [(e.attempt, e.verdict) for e in run.read_events(ev.AttemptEnded, name)]  # type: ignore[attr-defined]


def check_resumed(run: SlurmRun, name: str, saves: int) -> None:
    """It was queued again until it had saved so often, and each attempt began where the last one had saved. (Where the
    machine is slow, one may have been told to end before it had begun.)"""
    told = verdicts(run, name)
    assert [attempt for attempt, _ in told] == list(range(1, len(told) + 1))
    assert [verdict for _, verdict in told] == ["requeue"] * (len(told) - 1) + ["succeeded"]
    saved = 0
    for attempt, _ in told:
        for line in run.log(name, attempt).splitlines():
            if line.startswith("saved "):
                saved = int(line.split()[1])
            elif line.startswith("attempt "):
                assert line == f"attempt {attempt} from {saved}"
    assert saved == saves


@pytest.mark.slow  # Slurm looks at time limits every half minute
def test_before_its_time_limit_a_job_saves_queues_again_and_goes_on(tmp_path: Path, cluster: SlurmCluster) -> None:
    with slurm_run(tmp_path, cluster, training("a", saves=1)) as run:
        run.start("--slurm_time=1", "--slurm_signal_ahead=55")
        assert run.finish(timeout_s=180) == 0
        check_resumed(run, "a", saves=1)
        cause = run.read_events(ev.AttemptEnded, "a")[0].cause  # type: ignore[attr-defined]
        assert cause.summary == "its time was over; it is queued again"
        assert len(run.arrays()) == 1, "Slurm queued it again, nothing was submitted anew"


@pytest.mark.slow
def test_its_own_timeout_does_the_same_without_a_runner(tmp_path: Path, cluster: SlurmCluster) -> None:
    with slurm_run(tmp_path, cluster, training("a", saves=2), shell("b", "true")) as run:
        run.start("--slurm_timeout=2", "--detach")
        assert run.finish() == 0
        records = run.slurm_dir / "0001" / "tasks" / "0.jsonl"
        wait_until("its time to be over", lambda: records.exists() and '"requeue"' in records.read_text())
        wait_until("the job to be queued again", lambda: "PENDING" in str(cluster.jobs()))
        run.start("--slurm_timeout=2")
        assert run.finish(timeout_s=180) == 0
        check_resumed(run, "a", saves=2)
        check_resumed(run, "b", saves=0)
        assert len(run.arrays()) == 1


@pytest.mark.slow
def test_requeues_have_an_end(tmp_path: Path, cluster: SlurmCluster) -> None:
    with slurm_run(tmp_path, cluster, shell("a", "echo $SF_RUNNER_ATTEMPT; while :; do sleep 0.1; done")) as run:
        run.start("--slurm_timeout=1", "--slurm_max_requeues=1")
        assert run.finish() == 1
        assert verdicts(run, "a") == [(1, "requeue"), (2, "failed")]
        assert "--slurm_max_requeues=1 reached" in run.printed()


def test_a_preempted_job_resumes_from_its_checkpoint(tmp_path: Path, cluster: SlurmCluster) -> None:
    with slurm_run(tmp_path, cluster, training("a", saves=1), training("b", saves=1)) as run:
        run.start("--slurm_args=--exclusive")
        run.wait("both to run", lambda state: state.count("Running") == 2)
        wait_until("both to train", lambda: all("from 0" in run.log(name) for name in "ab"))
        urgent = ["sbatch", "--parsable", "-p", "urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 2"]
        cluster.run(*urgent)
        run.wait("one to be preempted", lambda state: any(r.attempts == 2 for r in state.jobs.values()))
        (tmp_path / "finish").touch()
        assert run.finish() == 0
        again, other = sorted("ab", key=lambda name: -run.job(name).attempts)
        check_resumed(run, again, saves=1)
        check_resumed(run, other, saves=0)
        (ended, _) = run.read_events(ev.AttemptEnded, again)
        assert (ended.verdict, ended.cause.kind) == ("requeue", "preempted")  # type: ignore[attr-defined]


def test_a_node_that_fails_gives_its_jobs_to_another(tmp_path: Path) -> None:
    with SlurmCluster(cpus=1) as cluster, slurm_run(tmp_path, cluster) as run:
        run.describe(*[run.waiting(name) for name in "ab"])
        run.start()
        run.wait("both to run", lambda state: state.count("Running") == 2)
        nodes = {name: run.read_events(ev.AttemptStarted, name)[0].handle["node"] for name in "ab"}  # type: ignore[attr-defined]
        victim = next(name for name, node in nodes.items() if node == "n2")
        cluster.kill_node(2)
        run.wait_for(victim, Submitted, attempt=2)
        for name in "ab":
            run.finish_waiting(name)
        assert run.finish() == 0
        assert verdicts(run, victim) == [(1, "requeue"), (2, "succeeded")]
        (ended, _) = run.read_events(ev.AttemptEnded, victim)
        assert ended.cause.kind == "node_failed"  # type: ignore[attr-defined]


def test_the_controller_goes_down_and_comes_back(tmp_path: Path, cluster: SlurmCluster) -> None:
    with slurm_run(tmp_path, cluster) as run:
        run.describe(*[run.waiting(name) for name in "ab"])
        run.start("--max_parallel=1")
        run.wait_for("a", Running)
        cluster.stop_controller()
        # How long squeue tries to reach it is Slurm's affair.
        told = "Slurm does not answer"
        run.wait("a word about it", lambda state: any(told in note.text for note in state.notes), timeout_s=180)
        run.finish_waiting("a")
        run.wait_for("a", Succeeded)
        assert isinstance(run.job("b").state, Submitted)
        cluster.start_controller()
        run.finish_waiting("b")
        assert run.finish(timeout_s=180) == 0
        assert sum("does not answer" in note.text for note in run.state.notes) == 1
        assert any("Slurm answers again" in note.text for note in run.state.notes)


@pytest.mark.slow  # squeue tries long to reach a controller that is gone
def test_three_ctrl_c_end_a_run_whose_controller_is_gone(tmp_path: Path, cluster: SlurmCluster) -> None:
    with slurm_run(tmp_path, cluster, shell("b", "echo b >> done")) as run:
        run.describe(run.waiting("a"), shell("b", "echo b >> done"))
        process = run.start("--max_parallel=1", "--grace=2")
        run.wait_for("a", Running)
        cluster.stop_controller()
        try:
            run.wait("a word about it", lambda state: any("does not answer" in note.text for note in state.notes))
            for reason in ("interrupted", "terminated", "killed"):
                process.send_signal(signal.SIGINT)
                run.wait("it to be heard", partial(is_draining, reason))
            assert run.finish() == 130
        finally:
            cluster.start_controller()
        assert all(isinstance(record.state, Waiting) for record in run.read().jobs.values())
        assert "what still queues there is not taken out, but will run nothing" in run.printed()
        wait_until("Slurm to be empty", lambda: not cluster.jobs())
        assert not (tmp_path / "done").exists()
        run.finish_waiting("a")
        run.start()
        assert run.finish() == 0
        assert (tmp_path / "done").read_text() == "b\n"


def is_draining(reason: str, state: RunState) -> bool:
    return state.draining is not None and state.draining.reason == reason


def test_cancelled_in_slurm_is_told_as_such(tmp_path: Path, cluster: SlurmCluster) -> None:
    with slurm_run(tmp_path, cluster) as run:
        run.describe(*[run.waiting(name) for name in "ab"])
        run.start("--max_parallel=1")
        run.wait_for("a", Running)
        array = run.arrays()[0]
        cluster.run("scancel", f"{array}_0", f"{array}_1")
        run.wait_for("a", Cancelled)
        run.wait_for("b", Cancelled)
        assert run.finish() == 1
        ended = run.read_events(ev.AttemptEnded)
        assert [e.cause.kind for e in ended] == ["cancelled", "cancelled"]  # type: ignore[attr-defined]


def test_a_script_that_fails_before_the_experiment_is_told(tmp_path: Path, cluster: SlurmCluster) -> None:
    template = tmp_path / "template.sh"
    template.write_text("#!/bin/bash\nset -e\nmodule_that_is_missing load cuda\n$CMD\n")
    with slurm_run(tmp_path, cluster, shell("a", "true")) as run:
        run.start(f"--slurm_sbatch_template={template}")
        assert run.finish() == 1
        state = run.job("a").state
        assert isinstance(state, Failed)
        assert "its job ended before the experiment was started" in state.cause.summary
        assert "module_that_is_missing: command not found" in state.cause.summary


def test_out_of_memory_is_recognised(tmp_path: Path, cluster: SlurmCluster) -> None:
    hungry = "ulimit -v 200000; exec python3 -I -S -c 'bytearray(10**9)'"
    with slurm_run(tmp_path, cluster, shell("a", hungry)) as run:
        run.start()
        assert run.finish() == 1
        state = run.job("a").state
        assert isinstance(state, Failed)
        assert state.cause.kind == "host_oom"


def test_a_program_that_is_missing_is_not_tried_again(tmp_path: Path, cluster: SlurmCluster) -> None:
    with slurm_run(tmp_path, cluster, "Experiment('a', 'no-such-program')") as run:
        run.start("--max_retries=3")
        assert run.finish() == 1
        assert run.job("a").attempts == 1
        assert "program 'no-such-program' was not found on PATH" in run.printed()


@pytest.mark.slow  # a limit of a minute is the shortest there is
def test_in_a_partition_of_one_minute_what_saves_gets_on_and_what_does_not_is_stopped(
    tmp_path: Path, cluster: SlurmCluster
) -> None:
    cluster.run("scontrol", "update", "partition=urgent", "MaxTime=1")
    try:
        (tmp_path / "of" / "another" / "one").mkdir(parents=True)  # what is saved nearby may be its own
        saves = shell("a", TRAINING.format(point="of/another/one/point", saves=1))
        with slurm_run(tmp_path, cluster, saves, shell("b", "sleep 900")) as run:
            run.start("--slurm_partition=urgent")
            assert run.finish(timeout_s=400) == 1
            check_resumed(run, "a", saves=1)
            assert verdicts(run, "b") == [(1, "requeue"), (2, "failed")]
            assert "jobs end after 1 min, the limit of partition 'urgent' (--slurm_time asks" in run.printed()
            assert "its time was over 2 times without getting any further" in run.printed()
    finally:
        cluster.run("scontrol", "update", "partition=urgent", "MaxTime=INFINITE")


@pytest.mark.slow  # a client tries long to reach a controller that is gone
def test_what_queues_is_cancelled_although_the_controller_is_gone(tmp_path: Path, cluster: SlurmCluster) -> None:
    with slurm_run(tmp_path, cluster) as run:
        run.describe(run.waiting("a"), shell("b", "echo b >> done"))
        run.start("--detach", "--max_parallel=1")
        assert run.finish() == 0
        wait_until("a to run", lambda: any(state == "RUNNING" for _, state in cluster.jobs()))
        cluster.stop_controller()
        try:
            done = run.tool_process("cancel", "--grace=2")
            assert done.returncode == 0, done.stderr
        finally:
            cluster.start_controller()
        assert run.read().count("Cancelled") == 2
        wait_until("Slurm to be empty", lambda: not cluster.jobs())
        assert not (tmp_path / "done").exists()
