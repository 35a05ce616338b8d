"""Rollout workers as processes: what they collect, and what happens when one dies, breaks or hangs."""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sf_algo import testing
from sf_algo.errors import WorkerError
from tests.algo.sampling_harness import SamplingHarness

SMALL = ("--num_workers=2", "--num_envs_per_worker=4", "--rollout=8", "--batch_size=128", "--use_rnn=False")
COUNTING = ("--env=sf_algo.testing:make_counting", *SMALL, "--decorrelate_experience_max_seconds=0")


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _environments(harness: SamplingHarness) -> set[int]:
    return {int(env) for batch in harness.batches for env in batch["obs/obs"][0, :, 0]}


def test_workers_fill_batches_with_unbroken_trajectories() -> None:
    with SamplingHarness(*COUNTING) as harness:
        harness.until(lambda: len(harness.batches) >= 6 and len(_environments(harness)) == 8, what="batches of all")
        pids = harness.pool.pids
        assert len(pids) == 2
        assert all(os.sched_getscheduler(pid) == os.SCHED_BATCH for pid in pids)  # see let_wakers_finish
        assert os.sched_getscheduler(0) == os.SCHED_OTHER
    assert not any(_alive(pid) for pid in pids)
    for batch in harness.batches:
        obs, valid = batch["obs/obs"], batch["valid"]
        same_episode = obs[1:, :, 1] == obs[:-1, :, 1]
        grows = obs[1:, :, 2] == obs[:-1, :, 2] + 1
        np.testing.assert_array_equal(grows, same_episode)  # one step at a time, or a new episode
        np.testing.assert_array_equal(same_episode, ~batch["reset_after"])
        assert (batch["rewards"][valid] == 1).all()
        assert (obs[:, :, 0] == obs[0, :, 0]).all()  # a column is one environment's
    assert _environments(harness) == set(range(8))
    assert {report.num_steps for report in harness.episodes} == {10}
    assert harness.steps[0] >= 6 * 128 * 0.8


def test_synchronous_splits_stop_at_the_end_of_their_share() -> None:
    with SamplingHarness(*COUNTING, "--async_rl=False", "--worker_num_splits=2") as harness:
        harness.hub.slots_allowed = harness.plan.rounds_to_fill(0)
        assert not harness.hub.is_through
        harness.until(lambda: harness.batches, what="a batch")
        for _ in range(20):
            harness.turn()
        assert [port.ring.filled for port in harness.hub.ports] == [2, 2, 2, 2]
        assert harness.hub.is_through
        assert len(harness.batches) == 1
        harness.hub.slots_allowed = 4
        harness.until(lambda: len(harness.batches) == 2, what="the next batch")


def test_several_policies_get_the_trajectories_they_played_in() -> None:
    with SamplingHarness(*COUNTING, "--num_policies=2") as harness:
        harness.until(lambda: len(harness.batches) >= 4, what="four batches")
    assert min(harness.steps) > 0
    assert {report.policy_id for report in harness.episodes} == {0, 1}


def test_a_killed_worker_is_replaced_and_sampling_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    with SamplingHarness(*COUNTING) as harness, caplog.at_level(logging.WARNING, "sf_algo"):
        harness.until(lambda: len(harness.batches) >= 2, what="two batches")
        victim = harness.pool.pids[1]
        os.kill(victim, signal.SIGKILL)
        harness.until(lambda: harness.pool.num_restarts == 1, what="a restart")
        filled = [port.ring.filled for port in harness.hub.ports[2:]]
        harness.until(
            lambda: all(p.ring.filled > f + 2 for p, f in zip(harness.hub.ports[2:], filled, strict=True)),
            what="slots of the new worker",
        )
        pids = harness.pool.pids
        assert victim not in pids
    assert not any(_alive(pid) for pid in (*pids, victim))
    assert "rollout worker 1 (environments 4-7) was killed by SIGKILL" in caplog.text


def test_a_worker_that_keeps_dying_ends_the_run() -> None:
    with SamplingHarness(*COUNTING) as harness:
        for restarts in range(4):
            while harness.pool.num_restarts < restarts:
                harness.turn()
            os.kill(harness.pool.pids[0], signal.SIGKILL)
        with pytest.raises(WorkerError, match=r"killed by SIGKILL .* 4 times in 10 minutes"):
            harness.until(lambda: False, what="the error")


def test_an_environment_that_breaks_once_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(testing.BREAK_AFTER_VARIABLE, "20")
    monkeypatch.setenv(testing.BREAK_ONCE_VARIABLE, str(tmp_path / "broke"))
    flags = ("--env=sf_algo.testing:make_crashing", *SMALL)
    with SamplingHarness(*flags) as harness, caplog.at_level(logging.WARNING, "sf_algo"):
        harness.until(lambda: "made environment" in caplog.text, what="the report")
        harness.until(lambda: len(harness.batches) >= 4, what="more batches")
        assert harness.pool.num_restarts == 0
    assert "this environment breaks on purpose" in caplog.text


def test_an_environment_that_always_breaks_ends_the_run_with_its_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(testing.BREAK_AFTER_VARIABLE, "3")
    flags = ("--env=sf_algo.testing:make_crashing", *SMALL)
    with SamplingHarness(*flags) as harness, pytest.raises(WorkerError) as caught:
        harness.until(lambda: False, what="the error")
    message = str(caught.value)
    assert "rollout worker" in message
    assert "broke 3 times without finishing an episode" in message
    assert "RuntimeError: this environment breaks on purpose" in message


def test_a_hanging_environment_is_named_with_its_stack_and_its_worker_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(testing.BREAK_AFTER_VARIABLE, "20")
    monkeypatch.setenv(testing.BREAK_ONCE_VARIABLE, str(tmp_path / "hung"))
    flags = ("--env=sf_algo.testing:make_hanging", *SMALL, "--decorrelate_experience_max_seconds=0")
    with (
        SamplingHarness(*flags, step_timeout_s=0.5) as harness,
        caplog.at_level(logging.WARNING, "sf_algo"),
    ):
        harness.until(lambda: harness.pool.num_restarts == 1, what="the restart")
        harness.until(lambda: harness.pool.num_ready == 3, what="the new worker")
        before = len(harness.batches)
        harness.until(lambda: len(harness.batches) >= before + 4, what="more batches")
    assert "has not answered for 0.5 s" in caplog.text
    assert "while it stepped environment" in caplog.text
    assert "testing.py" in caplog.text  # the stack shows where


def test_workers_end_when_the_main_process_is_killed() -> None:
    program = (
        "import os, signal, sys\n"
        "from tests.algo.sampling_harness import SamplingHarness\n"
        "harness = SamplingHarness(*sys.argv[1:])\n"
        "harness.__enter__()\n"
        "harness.until(lambda: harness.batches, what='a batch')\n"
        "print(*harness.pool.pids, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, *COUNTING], capture_output=True, text=True, timeout=240, check=False
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    pids = [int(pid) for pid in run.stdout.split()]
    assert len(pids) == 2
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        assert select.select([fd], [], [], 10)[0], f"worker {pid} outlived the main process"
        os.close(fd)
