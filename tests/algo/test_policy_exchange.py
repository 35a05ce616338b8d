"""Changes to policies while they train, wherever their learners are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from sf_algo.checkpoints import Checkpoint, CheckpointStore
from sf_algo.config.resolve import configure
from sf_algo.paths import ExperimentPaths
from sf_algo.rollout.episodes import MatchReport
from sf_algo.training import make_rules
from sf_algo.training.launch import run_training
from sf_algo.training.policies import Exchanged, PolicyControl
from sf_algo.training.rules import Rules

SMALL = (
    "--env=CartPole-v1",
    "--num_policies=2",
    "--hidden_size=16",
    "--rollout=8",
    "--batch_size=64",
    "--num_envs_per_worker=8",
    "--seed=1",
    "--device=cpu",
)
PLACES = {
    "serial": ("--serial_mode=True", "--async_rl=False"),
    "processes": ("--serial_mode=True", "--async_rl=True"),
}


class OneExchange:
    """`PolicyRules` that have one policy take over from another once, and remember what came of it."""

    def __init__(self, at_frames: int, **exchange: Any) -> None:
        self._at_frames = at_frames
        self._exchange = exchange
        self.asked = False
        self.told: list[Exchanged] = []
        self.seen: dict[str, Any] = {}

    def step(self, control: PolicyControl) -> None:
        frames = min(control.frames(policy) for policy in control.trained)
        if not self.asked and frames >= self._at_frames:
            self.asked = True
            self.seen["averages before"] = control.averages(1)
            self.control = control
            control.exchange(1, on_done=self._done, **self._exchange)

    def _done(self, exchanged: Exchanged) -> None:
        self.told.append(exchanged)
        self.seen["averages after"] = self.control.averages(1)
        self.seen["rl"] = self.control.hyperparameters(1)

    def on_matches(self, matches: Sequence[MatchReport]) -> None:
        raise AssertionError("there are no matches in CartPole")

    def summaries(self, policy: int) -> dict[str, float]:
        return {}

    def results(self, policy: int) -> dict[str, Any]:
        return {}

    def state(self, policy: int) -> dict[str, Any]:
        return {"policy": policy}

    def restore(self, policy: int, state: Mapping[str, Any]) -> None:
        assert state == {"policy": policy}
        self.seen[f"restored {policy}"] = True


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


Train = Callable[..., OneExchange]


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    def run(place: str, rules: OneExchange, *flags: str) -> OneExchange:
        monkeypatch.setattr(make_rules, "Rules", lambda control, others: Rules(control, {**others, "test": rules}))
        words = [f"--train_dir={tmp_path}", "--experiment=e", *SMALL, *PLACES[place], *flags]
        assert run_training(configure(words).config) == 0
        return rules

    return run


def newest(folder: Path, policy: int) -> Checkpoint:
    loaded = CheckpointStore(ExperimentPaths(folder / "e").checkpoints(policy), keep=1).load_latest()
    assert loaded is not None
    return loaded.checkpoint


@pytest.mark.parametrize("place", PLACES)
def test_a_policy_takes_over_another_with_other_hyperparameters(place: str, train: Train, tmp_path: Path) -> None:
    overrides = {"learning_rate": 0.0, "exploration_loss_coeff": 0.0123}
    rules = train(place, OneExchange(1000, donor=0, overrides=overrides), "--train_for_env_steps=16000")
    (exchanged,) = rules.told
    assert (exchanged.policy, exchanged.donor, exchanged.error) == (1, 0, "")
    assert rules.seen["averages before"]
    assert not rules.seen["averages after"]
    assert rules.seen["rl"].exploration_loss_coeff == 0.0123
    saved = newest(tmp_path, 1)
    learner = saved.learner
    assert learner["overrides"] == overrides
    assert learner["learning_rate"] == 0.0
    assert learner["born_version"] == exchanged.policy_version
    assert learner["policy_version"] > exchanged.policy_version  # it went on training, at no rate
    assert saved.env_steps > exchanged.frames
    assert newest(tmp_path, 0).learner["born_version"] == 0

    again = train(place, OneExchange(10**9, donor=0, overrides={}), "--train_for_env_steps=18000")
    assert again.seen == {"restored 0": True, "restored 1": True}
    assert newest(tmp_path, 1).learner["overrides"] == overrides
    assert newest(tmp_path, 1).learner["learning_rate"] == 0.0
    weight = next(name for name in learner["model"] if name.endswith("weight"))
    # Nothing was learned since the exchange, so these are the donor's weights of that moment.
    assert torch.equal(newest(tmp_path, 1).learner["model"][weight], learner["model"][weight])


def test_in_turns_what_was_collected_before_is_forgotten(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next batch is a whole one of what the policy is now."""
    from sf_algo.learner.learner import Learner

    found: list[tuple[set[int], int]] = []
    real = Learner.train

    def noting(self: Learner, batch: Any, **how: Any) -> Any:
        if self.born_version and self.policy_version == self.born_version:
            versions = batch.policy_version[(batch.policy_id == self._policy_id) & batch.valid]
            found.append((set((versions - self.born_version).tolist()), batch.num_trajectories))
        return real(self, batch, **how)

    monkeypatch.setattr(Learner, "train", noting)
    train("serial", OneExchange(1000, donor=0, overrides={}), "--train_for_env_steps=4000")
    ((versions, trajectories),) = found
    assert versions == {0}
    assert trajectories >= 16


@pytest.mark.parametrize("place", ["serial", "processes"])
def test_a_donor_of_another_network_changes_nothing(
    place: str, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from concurrent.futures import Future

    from sf_algo.learning.learners import LocalLearners
    from sf_algo.learning.remote_learners import RemoteLearners

    def strange(self: Any, policy_id: int) -> Future[Mapping[str, Any]]:
        future: Future[Mapping[str, Any]] = Future()
        future.set_result({"model": {"other": torch.zeros(1)}, "optimizer": {}, "learning_rate": 1.0})
        return future

    rules = OneExchange(1000, donor=0, overrides={"gamma": 0.5})
    kind = LocalLearners if place == "serial" else RemoteLearners
    asks = kind.ask_state

    given: list[int] = []

    def first_strange(self: Any, policy_id: int) -> Future[Mapping[str, Any]]:
        """To the exchange alone: whoever saves asks before or after it."""
        if rules.asked and not given:
            given.append(policy_id)
            return strange(self, policy_id)
        return asks(self, policy_id)

    monkeypatch.setattr(kind, "ask_state", first_strange)
    train(place, rules, "--train_for_env_steps=12000", "--save_every_sec=1000")
    (exchanged,) = rules.told
    assert "another network" in exchanged.error
    assert newest(tmp_path, 1).learner["overrides"] == {}
    assert newest(tmp_path, 1).learner["born_version"] == 0


def test_a_changed_policy_is_saved_soon(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    rules = OneExchange(1000, donor=0, overrides={})
    train("serial", rules, "--train_for_env_steps=6000", "--save_every_sec=1000", "--status_interval=0.1")
    saved = [line for line in capsys.readouterr().out.splitlines() if "saved " in line]
    # After the exchange, and at the end. In serial mode nobody is saved without the others.
    assert len([line for line in saved if "checkpoint_p1" in line]) == 2
    assert len([line for line in saved if "checkpoint_p0" in line]) == 2
