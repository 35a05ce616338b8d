"""The user's observers, called so that a mistake of theirs costs nothing but a message."""

from __future__ import annotations

import logging
import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sf_algo.errors import ConfigError
from sf_algo.ipc.training_board import TrainingBoard
from sf_algo.own.loading import failed
from sf_algo.own.observers import Episode, Observer, observer_names
from sf_algo.own.shaping import flatten, nest
from sf_algo.plain import to_arrays, to_plain

log = logging.getLogger(__name__)

FULL_REPORTS = 3


class TrainingHandle:
    """`own.observers.Training` for a running training."""

    def __init__(self, board: TrainingBoard, initial_shaping: Mapping[str, float], num_policies: int) -> None:
        self._board = board
        self._initial = initial_shaping
        self.num_policies = num_policies

    @property
    def env_steps(self) -> int:
        return self._board.info.env_steps

    def shaping(self, policy: int) -> dict[str, Any]:
        return nest(self.flat_shaping(policy))

    def flat_shaping(self, policy: int) -> dict[str, float]:
        """As `shaping`, by full names."""
        return self._board.shaping(policy) or dict(self._initial)

    def set_shaping(self, policy: int, values: Mapping[str, Any]) -> None:
        changed = flatten(values)
        unknown = sorted(changed.keys() - self._initial.keys())
        if unknown:
            known = ", ".join(self._initial) or "none"
            raise ValueError(f"the environment has no shaping called {', '.join(unknown)}; it has {known}")
        if not 0 <= policy < self.num_policies:
            raise ValueError(f"there is no policy {policy}; they are counted from 0 to {self.num_policies - 1}")
        self._board.set_shaping(policy, {**self.flat_shaping(policy), **changed})


class Observers:
    """All observers of a training. All methods may be called from any one thread at a time."""

    def __init__(self, makers: Sequence[Callable[[], Observer]]) -> None:
        """Makes them. Raises EnvError with the traceback where one cannot be made, ConfigError where it is none."""
        self._observers: list[tuple[str, Observer]] = []
        self._faults = 0
        for name, maker in zip(observer_names(makers), makers, strict=True):
            try:
                made = maker()
            except Exception as error:
                raise failed(f"observer {name}", error) from error
            if not isinstance(made, Observer):
                raise ConfigError(f"observer {name} is a {type(made).__name__}; derive it from sf_algo.Observer")
            self._observers.append((name, made))

    def __bool__(self) -> bool:
        return bool(self._observers)

    def on_start(self, training: TrainingHandle) -> None:
        for name, observer in self._observers:
            self._guarded(name, lambda o=observer: o.on_start(training))  # type: ignore[misc]

    def on_episode(self, policy: int, episode: Episode) -> None:
        for name, observer in self._observers:
            self._guarded(name, lambda o=observer: o.on_episode(policy, episode))  # type: ignore[misc]

    def on_iteration(self, policy: int, stats: Mapping[str, float]) -> None:
        for name, observer in self._observers:
            self._guarded(name, lambda o=observer: o.on_iteration(policy, stats))  # type: ignore[misc]

    def on_end(self) -> None:
        for name, observer in self._observers:
            self._guarded(name, observer.on_end)

    def summaries(self, policy: int, averages: Mapping[str, float]) -> dict[str, float]:
        """What all of them add; what is no number is told and left out."""
        found: dict[str, float] = {}
        for name, observer in self._observers:
            given = self._guarded(name, lambda o=observer: _numbers(o.summaries(policy, dict(averages))))  # type: ignore[misc]
            found |= given or {}
        return found

    def state(self) -> dict[str, Any]:
        """Name -> state, for a checkpoint."""
        states = {}
        for name, observer in self._observers:
            states[name] = self._guarded(name, lambda o=observer: _storable(o.state()))  # type: ignore[misc]
        return {name: state for name, state in states.items() if state is not None}

    def restore(self, states: Mapping[str, Any]) -> None:
        for name, observer in self._observers:
            if name in states:
                self._guarded(name, lambda o=observer, n=name: o.restore(to_arrays(states[n])))  # type: ignore[misc]

    def _guarded(self, name: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:
            self._faults += 1
            what = traceback.format_exception_only(type(error), error)[-1].strip()
            trace = f":\n{traceback.format_exc().strip()}" if self._faults <= FULL_REPORTS else f": {what}"
            log.warning("observer %s failed; the training goes on%s", name, trace)
            return None


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    numbers = {str(tag): float(value) for tag, value in values.items()}
    return {tag: value for tag, value in numbers.items() if math.isfinite(value)}


def _storable(state: Any) -> Any:
    plain = to_plain(state)
    _check_storable(plain, "state")
    return plain


def _check_storable(value: Any, where: str) -> None:
    """A checkpoint is read without running code from it, so it holds plain values only."""
    import torch

    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str | int):
                raise TypeError(f"{where} has a key that is neither a text nor a whole number: {key!r}")
            _check_storable(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_storable(item, f"{where}[{index}]")
    elif not isinstance(value, bool | int | float | str | torch.Tensor | None):
        raise TypeError(f"{where} is a {type(value).__name__}: a checkpoint holds plain values and arrays only")
