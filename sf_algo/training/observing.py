"""The user's observers, called so that a mistake of theirs costs nothing but a message."""

from __future__ import annotations

import logging
import math
import traceback
from collections import deque
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
SHAPING, OBSERVERS = "shaping", "observers"


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

    def changed_shaping(self, policy: int) -> dict[str, float] | None:
        """The shaping by full names; None where it is the environment's own."""
        return self._board.shaping(policy)

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
    """All observers of a training. News is noted on any thread and told to them on the main thread, by `tell`."""

    def __init__(self, makers: Sequence[Callable[[], Observer]], *, in_turn: bool) -> None:
        """Makes them. `in_turn`: collecting and learning take turns in one thread, and what is told at other times than
        between two iterations would make the training depend on the clock.

        Raises:
            EnvError: one cannot be made; its traceback is in the message.
            ConfigError: one is no observer.
        """
        self._observers: list[tuple[str, Observer]] = []
        self._faults = 0
        self._in_turn = in_turn
        for name, maker in zip(observer_names(makers), makers, strict=True):
            try:
                made = maker()
            except Exception as error:
                raise failed(f"observer {name}", error) from error
            if not isinstance(made, Observer):
                raise ConfigError(f"observer {name} is a {type(made).__name__}; derive it from sf_algo.Observer")
            self._observers.append((name, made))
        self._news: deque[Callable[[], None]] = deque()

    def __bool__(self) -> bool:
        return bool(self._observers)

    def on_start(self, training: TrainingHandle) -> None:
        for name, observer in self._observers:
            self._guarded(name, lambda o=observer: o.on_start(training))  # type: ignore[misc]

    def note_episode(self, policy: int, episode: Episode) -> None:
        """To be told: an episode ended."""
        if self._observers:
            self._news.append(lambda: self._on_episode(policy, episode))

    def note_iteration(self, policy: int, stats: Mapping[str, float]) -> None:
        """To be told: a policy was trained. Cheap, for it is called where policies act."""
        if self._observers:
            self._news.append(lambda: self._on_iteration(policy, stats))

    def tell(self, *, between_iterations: bool = False) -> None:
        """Tells what has been noted, if this is the moment for it."""
        if not self._in_turn or between_iterations:
            self._tell_all()

    def _tell_all(self) -> None:
        while self._news:
            self._news.popleft()()

    def _on_episode(self, policy: int, episode: Episode) -> None:
        for name, observer in self._observers:
            self._guarded(name, lambda o=observer: o.on_episode(policy, episode))  # type: ignore[misc]

    def _on_iteration(self, policy: int, stats: Mapping[str, float]) -> None:
        for name, observer in self._observers:
            self._guarded(name, lambda o=observer: o.on_iteration(policy, stats))  # type: ignore[misc]

    def on_end(self) -> None:
        self._tell_all()
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
        """Name -> state, for a checkpoint; the news so far is told before."""
        self._tell_all()
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


class ProgramState:
    """What a user's program has in checkpoints: the state of its observers (with the first policy), and the reward
    shaping of each policy."""

    def __init__(self, observers: Observers, handle: TrainingHandle) -> None:
        self._observers = observers
        self._handle = handle

    def of_policy(self, policy: int) -> dict[str, Any]:
        """Empty where the program has nothing."""
        state: dict[str, Any] = {}
        shaping = self._handle.changed_shaping(policy)
        if shaping is not None:
            state[SHAPING] = shaping
        if policy == 0 and self._observers:
            state[OBSERVERS] = self._observers.state()
        return state

    def restore(self, policy: int, state: Mapping[str, Any]) -> None:
        """What `of_policy` returned. Shaping that the environment does not have any more is left out."""
        shaping = self._handle.flat_shaping(policy)
        known = {name: value for name, value in state.get(SHAPING, {}).items() if name in shaping}
        if known:
            self._handle.set_shaping(policy, known)
        self._observers.restore(state.get(OBSERVERS, {}))


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
