"""Observers of users: called in order, at the right moments, and never the end of a training."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from sf_algo.errors import ConfigError, EnvError
from sf_algo.ipc.training_board import TrainingBoard
from sf_algo.own.observers import Episode, Observer, observer_names
from sf_algo.training.observing import Observers, ProgramState, TrainingHandle

SHAPING = {"delta/health": 0.1, "win": 1.0}


class Recording(Observer):
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def on_episode(self, policy: int, episode: Episode) -> None:
        self.calls.append((policy, episode.reward))

    def on_iteration(self, policy: int, stats: Mapping[str, float]) -> None:
        self.calls.append(("iteration", policy))

    def state(self) -> Any:
        return {"calls": len(self.calls), "weights": np.ones(2), "nested": [(1, "a"), None]}

    def restore(self, state: Any) -> None:
        self.calls = [state]


class Broken(Observer):
    def on_episode(self, policy: int, episode: Episode) -> None:
        raise RuntimeError("I never work")

    def summaries(self, policy: int, averages: Mapping[str, float]) -> Mapping[str, float]:
        return {"mine": "text"}  # type: ignore[dict-item]

    def state(self) -> Any:
        return {"me": self}


def observers(*makers: Any, in_turn: bool = False) -> tuple[Observers, list[Observer]]:
    made: list[Observer] = []

    def keep(maker: Any) -> Any:
        def make() -> Observer:
            made.append(maker())
            return made[-1]

        make.__qualname__ = maker.__qualname__
        return make

    return Observers([keep(maker) for maker in makers], in_turn=in_turn), made


def handle(num_policies: int = 1) -> TrainingHandle:
    board = TrainingBoard.create(num_acting=num_policies, shaping=list(SHAPING))
    return TrainingHandle(board, SHAPING, num_policies)


def test_news_is_told_later_and_in_order() -> None:
    both, (first,) = observers(Recording)
    both.note_episode(1, Episode(reward=3.0, num_frames=4))
    both.note_iteration(0, {"loss": 1.0})
    assert first.calls == []  # type: ignore[attr-defined]
    both.tell()
    assert first.calls == [(1, 3.0), ("iteration", 0)]  # type: ignore[attr-defined]


def test_where_all_takes_turns_news_is_told_between_iterations() -> None:
    both, (first,) = observers(Recording, in_turn=True)
    both.note_iteration(0, {})
    both.tell()
    assert first.calls == []  # type: ignore[attr-defined]
    both.tell(between_iterations=True)
    assert first.calls == [("iteration", 0)]  # type: ignore[attr-defined]


def test_one_that_is_broken_does_not_keep_others_from_their_work(caplog: pytest.LogCaptureFixture) -> None:
    both, (_, second) = observers(Broken, Recording)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            both.note_episode(0, Episode(reward=1.0, num_frames=1))
        both.tell()
        assert both.summaries(0, {}) == {}
        assert list(both.state()) == ["Recording"]
    assert len(second.calls) == 5  # type: ignore[attr-defined]
    assert caplog.text.count("Traceback") == 3
    assert "observer Broken failed; the training goes on: RuntimeError: I never work" in caplog.text
    assert "state['me'] is a Broken: a checkpoint holds plain values and arrays only" in caplog.text


def test_state_finds_its_observer_again() -> None:
    both, _ = observers(Recording, Recording)
    state = ProgramState(both, handle()).of_policy(0)
    assert list(state["observers"]) == ["Recording", "Recording#2"]
    again, made = observers(Recording, Broken)
    ProgramState(again, handle()).restore(0, state)
    assert made[0].calls[0]["weights"].tolist() == [1.0, 1.0]  # type: ignore[attr-defined]
    assert ProgramState(observers()[0], handle()).of_policy(0) == {}
    assert "observers" not in ProgramState(both, handle(2)).of_policy(1)


def test_names() -> None:
    assert observer_names([Recording, Recording, Broken])[:2] == ["Recording", "Recording#2"]


def test_what_is_no_observer() -> None:
    with pytest.raises(ConfigError, match="observer dict is a dict; derive it from"):
        Observers([dict], in_turn=False)  # type: ignore[list-item]
    with pytest.raises(EnvError, match=r"observer .*ZeroDivisionError"):
        Observers([lambda: 1 / 0], in_turn=False)  # type: ignore[list-item, return-value]


def test_shaping_is_changed_for_one_policy_and_kept() -> None:
    training = handle(2)
    assert training.shaping(1) == {"delta": {"health": 0.1}, "win": 1.0}
    training.set_shaping(1, {"delta": {"health": 0.5}})
    assert training.shaping(1) == {"delta": {"health": 0.5}, "win": 1.0}
    assert training.shaping(0)["delta"] == {"health": 0.1}
    saved = ProgramState(observers()[0], training).of_policy(1)
    assert saved == {"shaping": {"delta/health": 0.5, "win": 1.0}}
    later = handle(2)
    ProgramState(observers()[0], later).restore(1, {"shaping": {**saved["shaping"], "gone": 3.0}})
    assert later.shaping(1) == training.shaping(1)
    with pytest.raises(ValueError, match="no shaping called deltas; it has delta/health, win"):
        training.set_shaping(1, {"deltas": 1})
    with pytest.raises(ValueError, match="no policy 2"):
        training.set_shaping(2, {})


def test_the_board_is_shared() -> None:
    board = TrainingBoard.create(num_acting=2, shaping=["a"])
    other = TrainingBoard.attach(board.fd, num_acting=2, shaping=["a"])
    board.set_env_steps(1 << 40)
    board.set_shaping(1, {"a": 0.25})
    assert (other.info.env_steps, other.shaping(0), other.shaping(1)) == (1 << 40, None, {"a": 0.25})
    TrainingBoard.create(num_acting=1, shaping=[]).set_shaping(0, {})
