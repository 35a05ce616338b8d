"""A learner process that dies is replaced: what it had published, and what was under way, is not lost."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from sf_algo.checkpoints import CheckpointStore
from sf_algo.config.resolve import configure
from sf_algo.errors import WorkerError
from sf_algo.ipc.weights import SharedWeights
from sf_algo.learning import remote_learner
from sf_algo.learning.learner_crew import LearnerDiedError
from sf_algo.learning.remote_learner import RemoteLearner
from sf_algo.learning.remote_memory import published_weights, weight_specs, write_weights
from sf_algo.plain import cloned
from sf_algo.processes.restarts import Restarts
from sf_algo.training.launch import run_training
from tests.algo.model_cases import (
    assert_same,
    env_spec,
    learner_config,
    make_learner,
    make_model,
    random_batch,
    weights_of,
)
from tests.algo.test_training_policies import COUNTING, command, results

PIPELINED = ("--env=CartPole-v1", "--serial_mode=True", "--async_rl=True", "--hidden_size=32", "--seed=1")


def train(folder: Path, *flags: str) -> None:
    invocation = configure([f"--train_dir={folder}", "--experiment=e", *PIPELINED, *flags])
    torch.set_num_threads(1)
    assert run_training(invocation.config) == 0


def newest(folder: Path, policy: int = 0) -> dict[str, Any]:
    """The learner's state in the newest checkpoint."""
    loaded = CheckpointStore(folder / "e" / f"checkpoint_p{policy}", keep=1).load_latest()
    assert loaded is not None
    return dict(loaded.checkpoint.learner)


def log_of(folder: Path) -> list[str]:
    return (folder / "e" / "sf_log.txt").read_text().splitlines()


def test_restarts_are_counted_within_a_window() -> None:
    restarts = Restarts(2, 600.0)
    assert [restarts.begin(now) for now in (0.0, 10.0, 20.0)] == [1, 2, 0]
    assert restarts.exceeded == "3 times in 10 minutes"
    assert [restarts.begin(now) for now in (605.0, 606.0, 611.0)] == [2, 0, 2]


def test_what_was_published_replaces_the_weights_of_an_older_state() -> None:
    spec = env_spec()
    learner = make_learner(spec, learner_config(), make_model(spec))
    specs = weight_specs(learner.model)
    weights = SharedWeights.create("test", specs)
    try:
        assert published_weights(SharedWeights.attach(weights.fd, specs)) == {}
        learner.train(random_batch(spec, learner.model, seed=1))
        older = cloned(learner.state_dict())
        learner.train(random_batch(spec, learner.model, seed=2))
        weights.publish(lambda arrays: write_weights(learner.model, arrays), learner.policy_version)
        other = make_learner(spec, learner_config(), make_model(spec, seed=9))
        other.load_state_dict({**older, **published_weights(SharedWeights.attach(weights.fd, specs))})
        assert_same(weights_of(other), weights_of(learner))
        assert other.policy_version == learner.policy_version > older["policy_version"]
        assert float(other.state_dict()["optimizer"]["steps"]) == float(older["optimizer"]["steps"]) == 1.0
    finally:
        weights.close()


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Kills the learner after its fourth iteration; the list tells of iterations and of where it began again."""
    told: list[str] = []
    trained, answered = RemoteLearner._trained, RemoteLearner._answered

    def note_iteration(self: RemoteLearner, message: Any) -> None:
        trained(self, message)
        told.append(f"trained {message['stats']['policy_version']}")
        if len(told) == 4:
            os.kill(self.pids[0], signal.SIGKILL)

    def note_answer(self: RemoteLearner, message: Any) -> None:
        if message["kind"] == "begun_again":
            told.append(f"began again at {message['policy_version']}")
        answered(self, message)

    monkeypatch.setattr(RemoteLearner, "_trained", note_iteration)
    monkeypatch.setattr(RemoteLearner, "_answered", note_answer)
    return told


def test_a_killed_learner_goes_on_with_what_it_had_published(tmp_path: Path, watched: list[str]) -> None:
    train(tmp_path, "--train_for_env_steps=12000")
    began = next(i for i, line in enumerate(watched) if line.startswith("began"))
    before = [int(line.rpartition(" ")[2]) for line in watched[:began]]
    after = [int(line.rpartition(" ")[2]) for line in watched[began + 1 :]]
    # It may have published another iteration before it died, of which it could not tell.
    assert int(watched[began].rpartition(" ")[2]) >= before[-1]
    assert after, "it goes on learning"
    assert [*before, *after] == sorted({*before, *after}), "versions only grow"
    (line,) = [line for line in log_of(tmp_path) if "started again" in line]
    told = "the learner process was killed by SIGKILL; it is started again (1 of 3) with the newest weights, and a new "
    assert line.endswith(f"{told}optimizer")
    assert newest(tmp_path)["optimizer"]["steps"] < after[-1], "it was a new one"


def test_it_goes_on_with_the_optimizer_of_its_newest_checkpoint(tmp_path: Path, watched: list[str]) -> None:
    train(tmp_path, "--train_for_env_steps=2000")
    saved = newest(tmp_path)
    watched.clear()
    train(tmp_path, "--train_for_env_steps=14000")
    began = next(i for i, line in enumerate(watched) if line.startswith("began"))
    again = int(watched[began].rpartition(" ")[2])
    steps = float(newest(tmp_path)["optimizer"]["steps"])
    last = int(watched[-1].rpartition(" ")[2])
    assert steps == float(saved["optimizer"]["steps"]) + (last - again)
    assert again > saved["policy_version"], "weights are newer"
    (line,) = [line for line in log_of(tmp_path) if "started again" in line]
    assert re.search(r"newest weights, and the optimizer of checkpoint_\d+_\d+\.pth$", line)


def test_one_that_dies_again_and_again_ends_the_training_and_the_others_are_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_learner, "MAX_RESTARTS", 1)
    trained = RemoteLearner._trained

    def kill_the_second(self: RemoteLearner, message: Any) -> None:
        trained(self, message)
        if self._policy.policy_id == 1:
            os.kill(self.pids[0], signal.SIGKILL)

    monkeypatch.setattr(RemoteLearner, "_trained", kill_the_second)
    pattern = (
        r"^the learner process of policy 1 was killed by SIGKILL; it died 2 times in 60 minutes; start the same "
        r"command again to go on from the last checkpoint$"
    )
    with pytest.raises(WorkerError, match=pattern):
        train(tmp_path, "--num_policies=2", "--train_for_seconds=120")
    assert results(tmp_path)["outcome"] == "failed"
    assert newest(tmp_path, 0)["policy_version"] > 0
    assert not list((tmp_path / "e" / "checkpoint_p1").glob("*.pth"))


def test_who_cannot_begin_again_says_of_which_death_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = RemoteLearner._trained

    def kill_it(self: RemoteLearner, message: Any) -> None:
        trained(self, message)
        self._settings.config.clear()  # another process cannot be built from this
        os.kill(self.pids[0], signal.SIGKILL)

    monkeypatch.setattr(RemoteLearner, "_trained", kill_it)
    with pytest.raises(WorkerError) as caught:
        train(tmp_path, "--train_for_seconds=120")
    first = str(caught.value).splitlines()[0]
    assert first.startswith(
        "the learner process was killed by SIGKILL; it could not be started again: the learner failed"
    )
    assert not isinstance(caught.value, LearnerDiedError)


def test_kill_9_of_one_learner_of_several_costs_its_unfinished_iteration_only(tmp_path: Path) -> None:
    with command(tmp_path, COUNTING, "--save_every_sec=1") as training:
        training.wait_for(r"saved .*checkpoint_p0")
        killed = training.pids("sf_learner")[0]
        os.kill(killed, signal.SIGKILL)
        line = training.wait_for("the learner process of policy 0 was killed by SIGKILL")
        assert "it is started again (1 of 3) with the newest weights, and the optimizer of checkpoint_" in line
        training.wait_for(r"saved .*checkpoint_p0")
        training.wait_for(r"saved .*checkpoint_p0")  # the second one is of an iteration after the restart
        assert killed not in training.pids("sf_learner")
        training.process.terminate()
        assert training.finish() == 128 + signal.SIGTERM
        training.wait_until_nothing_is_left()
    assert "Traceback" not in training.text
    assert not [line for line in training.lines if line.startswith("error: ")]
    assert min(policy["policy_version"] for policy in results(tmp_path)["policies"]) > 0
