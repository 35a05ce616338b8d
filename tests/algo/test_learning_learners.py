"""Learners in processes of their own: they learn, go on from checkpoints, and say what went
wrong."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from sf_algo.checkpoints import CheckpointStore
from sf_algo.config.resolve import configure
from sf_algo.errors import CheckpointMismatchError, WorkerError
from sf_algo.learner.learner import Learner
from sf_algo.learning.remote_learner import RemoteLearner
from sf_algo.learning.remote_learners import RemoteLearners
from sf_algo.paths import ExperimentPaths
from sf_algo.training.launch import run_training
from sf_algo.training.saving import Saver

PIPELINED = ("--env=CartPole-v1", "--serial_mode=True", "--async_rl=True", "--hidden_size=32", "--seed=1")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def train(folder: Path, *flags: str) -> dict[str, Any]:
    invocation = configure([f"--train_dir={folder}", "--experiment=e", *PIPELINED, *flags])
    assert run_training(invocation.config) == 0
    document: dict[str, Any] = json.loads((folder / "e" / "results.json").read_text())
    return document


def test_a_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    first = train(tmp_path, "--train_for_env_steps=20000")
    second = train(tmp_path, "--train_for_env_steps=40000")
    assert second["policies"][0]["policy_version"] > first["policies"][0]["policy_version"] > 0
    assert second["env_steps"] >= 40_000
    assert second["metrics"]["reward"] > 60
    loaded = CheckpointStore(ExperimentPaths(tmp_path / "e").checkpoints(0), keep=1).load_latest()
    assert loaded is not None
    assert loaded.checkpoint.policy_version == second["policies"][0]["policy_version"]
    assert threading.active_count() == 1 or not [t for t in threading.enumerate() if "learner" in t.name]


def test_the_batch_that_reaches_the_limit_is_the_last(tmp_path: Path) -> None:
    """However many more are full by then: the end would have to wait for them."""
    results = train(tmp_path, "--train_for_env_steps=3000", "--num_minibatches_to_accumulate=40", "--ppo_epochs=20")
    assert results["env_steps"] == 3 * 1024


@pytest.mark.parametrize(
    "mode", [("--serial_mode=True", "--async_rl=True"), ("--serial_mode=False", "--num_workers=2")]
)
def test_sampling_may_pause_while_the_learner_trains(tmp_path: Path, mode: tuple[str, ...]) -> None:
    more = ("--num_minibatches_to_accumulate=0", "--train_for_env_steps=4000", "--num_envs_per_worker=4")
    results = train(tmp_path, *mode, *more, "--rollout=16", "--batch_size=256")
    assert 4000 <= results["env_steps"] < 8000


def test_an_error_in_training_ends_the_run_with_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="the learner failed: RuntimeError: this encoder") as caught:
        train(tmp_path, "--encoder_custom=tests.algo.broken_encoder:make_encoder")
    assert "broken_encoder.py" in str(caught.value)
    results = json.loads((tmp_path / "e" / "results.json").read_text())
    assert results["outcome"] == "failed"
    assert "cannot be trained" in results["reason"]


def test_states_are_not_unpacked_by_the_thread_that_acts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    polling: list[str] = []
    load, answered = torch.load, RemoteLearner._answered

    def noting(*args: Any, **options: Any) -> Any:
        threads.append(threading.current_thread().name)
        return load(*args, **options)

    def noting_too(self: RemoteLearner, message: Any) -> None:
        polling.append(threading.current_thread().name)
        answered(self, message)

    monkeypatch.setattr(torch, "load", noting)
    monkeypatch.setattr(RemoteLearner, "_answered", noting_too)
    train(
        tmp_path, "--serial_mode=False", "--num_workers=1", "--train_for_env_steps=8000", "--save_every_sec=0.01",
        "--batch_size=256", "--rollout=16",
    )  # fmt: skip
    assert "hub" in polling
    assert set(threads) == {"MainThread"}


@pytest.mark.slow
def test_several_learners_of_a_policy_train_together_and_resume(tmp_path: Path) -> None:
    several = ("--num_learners=2", "--train_for_env_steps=6000", "--num_policies=2", "--batch_size=512")
    first = train(tmp_path, *several)
    assert all(policy["policy_version"] > 0 for policy in first["policies"])
    second = train(tmp_path, *several, "--train_for_env_steps=12000")
    assert second["policies"][0]["policy_version"] > first["policies"][0]["policy_version"]
    assert "reward" in second["metrics"]


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_one_of_several_learners_that_dies_ends_the_training_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    trained = RemoteLearner._trained

    def kill_one(self: RemoteLearner, message: Any) -> None:
        trained(self, message)
        os.kill(self.pids[rank], signal.SIGKILL)

    monkeypatch.setattr(RemoteLearner, "_trained", kill_one)
    with pytest.raises(WorkerError, match=rf"the learner process \({rank + 1} of 2\) was killed by SIGKILL"):
        train(tmp_path, "--num_learners=2", "--train_for_seconds=60", "--batch_size=512")


def test_an_error_of_the_device_is_not_hidden_by_the_one_of_saving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an error of CUDA every further call fails, saving's too."""

    def fail(text: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            raise RuntimeError(f"CUDA error: {text}")

        return call

    monkeypatch.setattr(Learner, "train", fail("an illegal memory access was encountered"))
    monkeypatch.setattr(Learner, "state_dict", fail("again"))
    monkeypatch.setattr(Saver, "save_all", fail("again"))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        train(tmp_path, "--async_rl=False")
    results = json.loads((tmp_path / "e" / "results.json").read_text())
    assert "illegal memory access" in results["reason"]
    assert "nothing more could be saved: CUDA error: again" in (tmp_path / "e" / "sf_log.txt").read_text()


def test_a_checkpoint_of_another_network_is_refused_by_name(tmp_path: Path) -> None:
    train(tmp_path, "--train_for_env_steps=3000")
    with pytest.raises(CheckpointMismatchError, match="another network than the flags describe"):
        train(tmp_path, "--hidden_size=16", "--train_for_env_steps=6000")


def test_a_learner_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sf_algo.learning.remote_learner.STALL_TIMEOUT_S", 1.0)
    train_ready = RemoteLearners.train_ready

    def stop_it_first(self: RemoteLearners) -> None:
        os.kill(self.pids[0], signal.SIGSTOP)
        train_ready(self)

    monkeypatch.setattr(RemoteLearners, "train_ready", stop_it_first)
    with pytest.raises(WorkerError, match="has not finished an iteration for 1 s"):
        train(tmp_path, "--train_for_seconds=60")
