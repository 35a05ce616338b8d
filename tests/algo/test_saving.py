"""Which checkpoints are written when learners do not hand over their states at once, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from sf_algo.checkpoints import load_checkpoint
from sf_algo.config import RunConfig
from sf_algo.errors import WorkerError
from sf_algo.learner.stats import TrainStats
from sf_algo.learning.learners import TrainedBatch
from sf_algo.paths import ExperimentPaths
from sf_algo.summaries.episodes import EpisodeWindow
from sf_algo.training.ledger import Ledger
from sf_algo.training.saving import Saver

State = Mapping[str, Any]


class Learners:
    """Hand over the states of policies in `answering`; the others are in the middle of an iteration."""

    def __init__(self) -> None:
        self.answering: set[int] = set()
        self.asked: dict[int, Future[State]] = {}
        self.waits: list[int] = []
        self.version = 1

    def ask_state(self, policy_id: int) -> Future[State]:
        assert policy_id not in self.asked or self.asked[policy_id].done(), "one question at a time"
        self.asked[policy_id] = Future()
        self.answer()
        return self.asked[policy_id]

    def answer(self) -> None:
        for policy_id, future in self.asked.items():
            if policy_id in self.answering and not future.done():
                future.set_result({"model": {"w": torch.zeros(2)}, "policy_version": self.version})

    def wait(self, policy_id: int, future: Future[State], timeout_s: float) -> State:
        self.waits.append(policy_id)
        if not future.done():
            raise WorkerError(f"the learner of policy {policy_id} has not answered")
        return future.result()


class Bench:
    """A saver of two policies."""

    def __init__(self, folder: Path, *, together: bool = False, **run: Any) -> None:
        self.learners = Learners()
        self.ledger = Ledger(num_policies=2, frameskip=1)
        self.folder = folder
        actor = SimpleNamespace(generator_state=lambda: {})
        policies = [
            SimpleNamespace(policy_id=p, inference=SimpleNamespace(actor=actor), batcher=None) for p in range(2)
        ]
        self.changed: set[int] = set()
        self.told_before: list[list[str]] = []
        """What had been saved of policy 0 when it was told of exchanges."""
        control = SimpleNamespace(
            take_changed=self.take_changed, advance=lambda: self.told_before.append(self.saved(0))
        )
        rules = SimpleNamespace(control=control, state=lambda policy: {})
        for policy in range(2):
            ExperimentPaths(folder).checkpoints(policy).mkdir(parents=True)
        self.saver = Saver(
            RunConfig(**{"save_every_sec": 1e-6, **run}),
            ExperimentPaths(folder),
            cast(Any, policies),
            self.ledger,
            [EpisodeWindow(10) for _ in range(2)],
            learners=cast(Any, self.learners),
            sampler_state=dict,
            programs=cast(Any, SimpleNamespace(of_policy=lambda policy: {})),
            rules=cast(Any, rules),
            together=together,
        )

    def take_changed(self) -> set[int]:
        changed, self.changed = self.changed, set()
        return changed

    def train(self, policy: int, version: int, steps: int = 100) -> None:
        stats = TrainStats(
            policy_version=version,
            num_samples=1,
            num_valid_samples=1,
            num_updates=1,
            num_skipped_updates=0,
            num_damaged_trajectories=0,
            summaries={},
        )
        self.ledger.trained(TrainedBatch(policy_id=policy, stats=stats, valid_steps=steps, seconds=0.0))

    def saved(self, policy: int) -> list[str]:
        return sorted(path.name for path in ExperimentPaths(self.folder).checkpoints(policy).glob("*.pth"))


def test_nobody_waits_for_a_policy_in_the_middle_of_an_iteration(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.train(0, 1)
    bench.train(1, 1)
    bench.learners.answering = {1}
    bench.saver.save_due()
    assert (bench.saved(0), len(bench.saved(1))) == ([], 1)
    assert bench.learners.waits == []
    bench.saver.save_due()  # it is not asked a second time
    # Policy 0 hands over what it was before it was trained again: the frames are those of that version.
    bench.learners.answering = {0, 1}
    bench.learners.answer()
    bench.train(0, 2)
    bench.saver.save_due()
    assert bench.saved(0)[0] == "checkpoint_000000001_100.pth"
    assert load_checkpoint(ExperimentPaths(tmp_path).checkpoints(0) / bench.saved(0)[0]).env_steps == 100


def test_at_the_end_those_who_answer_are_saved_first_and_the_others_told(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.train(0, 1)
    bench.train(1, 1)
    bench.learners.answering = {1}
    with pytest.raises(WorkerError, match="policy 0 has not answered"):
        bench.saver.save_all()
    assert (bench.saved(0), len(bench.saved(1))) == ([], 1)
    assert bench.learners.waits == [0, 1, 0]  # policy 1 is saved before policy 0 is waited for in earnest


def test_at_the_end_nothing_is_written_twice(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.learners.answering = {0, 1}
    bench.train(0, 1)
    bench.train(1, 1)
    bench.saver.save_due()
    bench.learners.version = 2
    bench.train(1, 2)
    bench.saver.save_all()
    assert (len(bench.saved(0)), len(bench.saved(1))) == (1, 2)


def test_exchanges_are_told_before_a_state_is_written_that_has_them(tmp_path: Path) -> None:
    """Also at the end, when nobody else asks any more what has become of them."""
    bench = Bench(tmp_path, save_every_sec=1000.0)
    bench.learners.answering = {0, 1}
    bench.train(0, 1)
    bench.saver.save_all()
    assert bench.told_before[0] == []
    assert len(bench.saved(0)) == 1


def test_policies_that_go_on_together_are_saved_together(tmp_path: Path) -> None:
    bench = Bench(tmp_path, together=True, save_every_sec=1000.0)
    bench.learners.answering = {0, 1}
    bench.train(0, 1)
    bench.train(1, 1)
    bench.changed = {1}
    bench.saver.save_due()
    assert (len(bench.saved(0)), len(bench.saved(1))) == (1, 1)
    bench.saver.save_due()
    bench.saver.save_all()  # nothing has been learned since
    assert bench.learners.waits == []
    first = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pth")}
    bench.train(1, 2)
    bench.saver.save_all()
    again = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pth")}
    assert {path.parent.name for path in again if again[path] != first.get(path)} == {"checkpoint_p0", "checkpoint_p1"}


def test_a_change_is_saved_even_if_a_state_from_before_it_was_under_way(tmp_path: Path) -> None:
    bench = Bench(tmp_path, save_every_sec=1000.0)
    bench.train(0, 1)
    bench.changed = {0}
    bench.saver.save_due()
    bench.changed = {0}  # once more, before the learner has answered
    bench.saver.save_due()
    bench.learners.answering = {0, 1}
    bench.learners.answer()
    bench.learners.version = 2
    bench.train(0, 2)
    bench.saver.save_due()
    assert [name.split("_")[1] for name in bench.saved(0)] == ["000000001", "000000002"]


def test_a_change_that_cannot_be_saved_is_tried_again_later_not_at_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, save_every_sec=1000.0)
    bench.learners.answering = {0, 1}
    bench.train(0, 1)
    folder = ExperimentPaths(tmp_path).checkpoints(0)
    folder.rmdir()
    folder.write_text("no folder")
    bench.changed = {0}
    bench.saver.save_due()
    asked = bench.learners.asked.pop(0)
    bench.saver.save_due()
    assert asked.done()
    assert 0 not in bench.learners.asked
