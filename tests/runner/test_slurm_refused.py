"""Slurm refuses: now, for as long as something lasts, or for good. On a real Slurm."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sf_runner.backends.slurm import client as client_module
from sf_runner.backends.slurm.client import SlurmClient, SlurmDownError
from sf_runner.state.jobs import Failed, Running, Succeeded, Waiting
from tests.runner.harness import shell, wait_until
from tests.runner.slurm_cluster import SlurmCluster
from tests.runner.slurm_runs import SlurmRun, slurm_run

pytestmark = pytest.mark.slurm


@contextmanager
def drained(cluster: SlurmCluster) -> Iterator[None]:
    cluster.run("scontrol", "update", "nodename=n[1-2]", "state=drain", "reason=test")
    try:
        yield
    finally:
        cluster.run("scontrol", "update", "nodename=n[1-2]", "state=resume")


@contextmanager
def closed(cluster: SlurmCluster, partition: str = "main") -> Iterator[None]:
    cluster.run("scontrol", "update", f"partition={partition}", "state=inactive")
    try:
        yield
    finally:
        cluster.run("scontrol", "update", f"partition={partition}", "state=up")


def told(run: SlurmRun, text: str) -> int:
    """How often that was said."""
    run.read()
    return sum(text in note.text for note in run.state.notes)


def test_while_all_nodes_are_drained_experiments_are_submitted(tmp_path: Path, cluster: SlurmCluster) -> None:
    with slurm_run(tmp_path, cluster, shell("a", "true")) as run:
        with drained(cluster):
            run.start()
            wait_until("it to be submitted", lambda: [state for _, state in cluster.jobs()] == ["PENDING"])
        assert run.finish() == 0
        assert told(run, "Slurm could not start them as things are: Requested node configuration is not available") == 1


@pytest.mark.parametrize("flags", [(), pytest.param(("--slurm_partition=nowhere",), marks=pytest.mark.slow)])
def test_nothing_keeps_a_runner_from_coming_back_to_what_runs(
    tmp_path: Path, cluster: SlurmCluster, flags: tuple[str, ...]
) -> None:
    with slurm_run(tmp_path, cluster) as run:
        run.describe(run.waiting("a"))
        first = run.start()
        run.wait_for("a", Running)
        first.send_signal(signal.SIGHUP)
        first.wait()
        run.describe(run.waiting("a"), shell("b", "true"))
        with closed(cluster):
            run.start(*flags)
            run.wait("a word about it", lambda state: told(run, "Slurm"))
            run.finish_waiting("a")
            run.wait_for("a", Succeeded)
        assert run.finish() == (1 if flags else 0)
        assert run.job("a").attempts == 1
        if flags:
            state = run.job("b").state
            assert isinstance(state, Failed)
            assert "Invalid partition name specified (--slurm_partition)" in state.cause.summary
        else:
            assert told(run, "Required partition not available (inactive or drain)") >= 1


@pytest.mark.slow  # a client tries long to reach a munge that is gone
def test_a_hiccup_of_munge_fails_nothing(tmp_path: Path, cluster: SlurmCluster) -> None:
    sock, away = cluster.folder / "munge.socket", cluster.folder / "munge.away"
    with slurm_run(tmp_path, cluster, shell("a", "true")) as run:
        sock.rename(away)
        try:
            run.start()
            run.wait("a word about it", lambda state: told(run, "Slurm does not take the experiments yet"))
        finally:
            away.rename(sock)
        assert run.finish() == 0
        assert run.job("a").attempts == 1


def stub_sbatch(folder: Path, cluster: SlurmCluster, script: str) -> dict[str, str]:
    """An environment in which sbatch is this script (`$REAL` is the real one), but for its --test-only."""
    (folder / "bin").mkdir()
    stub = folder / "bin" / "sbatch"
    real = cluster.run("which", "sbatch").strip()
    stub.write_text(f'#!/bin/bash\nREAL={real}\ncase "$*" in *--test-only*) exec $REAL "$@";; esac\n{script}\n')
    stub.chmod(0o755)
    return {"PATH": f"{stub.parent}:{cluster.environ['PATH']}"}


def test_a_hanging_sbatch_is_told_of_and_given_up_at_the_third_ctrl_c(tmp_path: Path, cluster: SlurmCluster) -> None:
    env = stub_sbatch(tmp_path, cluster, f"touch {tmp_path}/asked; sleep 600")
    with slurm_run(tmp_path, cluster, shell("a", "true"), shell("b", "true")) as run:
        process = run.start(env=env)
        wait_until("sbatch to be asked", (tmp_path / "asked").exists)
        process.send_signal(signal.SIGINT)
        wait_until("a word about it", lambda: "sbatch has not answered for" in run.printed())
        assert "2 experiments may come to run by it" in run.printed()
        process.send_signal(signal.SIGINT)
        wait_until("it to be heard", lambda: "ending 2 running experiments" in run.printed())
        process.send_signal(signal.SIGINT)
        assert run.finish() == 130
        assert all(isinstance(record.state, Waiting) for record in run.read().jobs.values())
        run.start()
        assert run.finish() == 0


def test_what_is_submitted_late_after_it_was_given_up_runs_nothing(tmp_path: Path, cluster: SlurmCluster) -> None:
    wait_and_submit = f'until test -e {tmp_path}/go; do sleep 0.1; done; "$0" "$@" > {tmp_path}/late'
    script = (
        f"setsid bash -c '{wait_and_submit}' $REAL \"$@\" </dev/null >/dev/null 2>&1 &\n"
        "echo sbatch: error: Socket timed out on send/recv operation >&2; exit 1"
    )
    env = stub_sbatch(tmp_path, cluster, script)
    with slurm_run(tmp_path, cluster, shell("a", "echo a >> done"), shell("b", "echo b >> done")) as run:
        process = run.start(env=env)
        wait_until("a word about it", lambda: "Slurm does not take the experiments yet" in run.printed())
        process.send_signal(signal.SIGINT)
        assert run.finish() == 130
        assert "2 did not run" in run.printed()
        (tmp_path / "go").touch()
        wait_until("it to be submitted", lambda: (tmp_path / "late").exists() and (tmp_path / "late").read_text())
        wait_until("Slurm to be empty", lambda: not cluster.jobs())
        assert not (tmp_path / "done").exists()
        run.start()
        assert run.finish() == 0
        assert Counter((tmp_path / "done").read_text().split()) == {"a": 1, "b": 1}


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, cluster: SlurmCluster) -> None:
    with slurm_run(tmp_path, cluster, shell("a", "true")) as run:
        run.start("--slurm_workdir=/proc/self/fdinfo")
        assert run.finish() == 2
        assert "--slurm_workdir=/proc/self/fdinfo cannot be written" in run.printed()
        run.start("--slurm_workdir=new", "--dry_run")
        assert run.finish() == 0
        assert not (tmp_path / "new").exists(), "a dry run touches nothing"


def test_an_output_folder_that_is_gone_when_the_job_starts_is_named(tmp_path: Path, cluster: SlurmCluster) -> None:
    with slurm_run(tmp_path, cluster, shell("a", "true")) as run:
        with drained(cluster):
            run.start("--slurm_workdir=out")
            wait_until("it to be submitted", lambda: [state for _, state in cluster.jobs()] == ["PENDING"])
            (tmp_path / "out").rmdir()
        assert run.finish() == 1
        assert "its node could not start the job script (JobLaunchFailure)" in run.printed()
        assert "--slurm_workdir" in run.printed()
        assert "(no log: it was not started)" in run.printed()
        assert "attempt_1.log" not in run.printed()


@pytest.mark.slow  # test_slurm_parts.py says where they are looked for
def test_the_last_words_of_a_script_are_found_in_its_output_folder(tmp_path: Path, cluster: SlurmCluster) -> None:
    template = tmp_path / "template.sh"
    template.write_text("#!/bin/bash\nset -e\nmodule_that_is_missing load cuda\n$CMD\n")
    with slurm_run(tmp_path, cluster, shell("a", "true")) as run:
        run.start(f"--slurm_sbatch_template={template}", "--slurm_workdir=out")
        assert run.finish() == 1
        (output,) = (tmp_path / "out").iterdir()
        assert "module_that_is_missing: command not found" in run.printed()
        assert f"what its job script printed is in {output}" in run.printed()


def test_a_start_does_not_wait_long_for_what_it_can_find_out_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    for program in ("scontrol", "sbatch"):
        (tmp_path / "bin" / program).write_text("#!/bin/sh\nexec sleep 600\n")
        (tmp_path / "bin" / program).chmod(0o755)
    monkeypatch.setattr(client_module, "_START_TIMEOUT_S", 0.3)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    client = SlurmClient(dict(os.environ))
    refusal = client.test_text("#!/bin/sh\n")
    assert refusal is not None
    assert (refusal.kind, refusal.text) == ("down", "sbatch did not answer in 0 s")
    with pytest.raises(SlurmDownError, match="scontrol did not answer in 0 s"):
        client.time_limit("", "")
