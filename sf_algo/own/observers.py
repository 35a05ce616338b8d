"""Observers: code of the user's that follows a training in the main process, never on the hot path."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class Episode:
    """A finished episode of one agent."""

    reward: float
    """Sum of the rewards that the policy saw."""
    num_frames: int
    """Its length in frames, frame skip included."""
    stats: Mapping[str, float] = field(default_factory=dict)
    """The environment's numbers (`info["episode_extra_stats"]`), `true_reward` among them where it differs."""
    extras: Any = None
    """What the environment put into `info["episode_extras"]` of the last step: anything that JSON can say."""


class Training(Protocol):
    """What observers may ask of the training and change in it."""

    @property
    def env_steps(self) -> int:
        """Frames collected so far, earlier starts included."""

    @property
    def num_policies(self) -> int:
        """Policies that are trained."""

    def shaping(self, policy: int) -> dict[str, Any]:
        """The reward shaping that agents of that policy have from their next episode on, nested as the environment's
        own `shaping()`; empty where it has none."""

    def set_shaping(self, policy: int, values: Mapping[str, Any]) -> None:
        """Changes numbers of it; those that `values` leaves out stay. It is kept in checkpoints. Raises ValueError for
        a name that the environment does not have."""


class Observer:
    """Base of observers, whose methods do nothing. An App has them as classes or functions without parameters:
    `App(observers=(Scores,))`; each start of a training makes its own.

    An observer that raises is told with its traceback; the training goes on.
    """

    def on_start(self, training: Training) -> None:
        """The training begins or goes on; `restore` has been called by then."""

    def on_episode(self, policy: int, episode: Episode) -> None:
        """An agent that followed that policy ended an episode."""

    def on_iteration(self, policy: int, stats: Mapping[str, float]) -> None:
        """A policy has been trained on a batch; `stats` are the numbers of tensorboard's `train/*`."""

    def summaries(self, policy: int, averages: Mapping[str, float]) -> Mapping[str, float]:
        """Further numbers for tensorboard: tag -> number. Called when summaries are written; `averages` are those of
        the newest episodes, by statistic."""
        return {}

    def on_end(self) -> None:
        """The training ends, also after an error; the last checkpoint has been written."""

    def state(self) -> Any:
        """What `restore` needs, for the checkpoint: numbers, texts, lists, dictionaries with texts as keys, arrays."""
        return None

    def restore(self, state: Any) -> None:
        """The training goes on from a checkpoint that holds this state. Not called where `state` was None."""


def observer_names(makers: Sequence[Callable[[], Observer]]) -> list[str]:
    """A name for each, under which its state is kept: that of its class or function, numbered where two are equal."""
    names: list[str] = []
    for maker in makers:
        name = getattr(maker, "__qualname__", None) or type(maker).__qualname__
        count = sum(known.partition("#")[0] == name for known in names)
        names.append(f"{name}#{count + 1}" if count else name)
    return names
