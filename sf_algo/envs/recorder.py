"""What an environment's info says beside rewards: numbers of every step that losses of the user's need
(--step_fields), and anything about an episode for observers (`info["episode_extras"]`).

Shape letters: A agents of one environment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sf_algo.errors import EnvContractError

EXTRAS = "episode_extras"
"""The key of an info whose value observers get as `Episode.extras`."""


class InfoRecorder:
    """Collects from infos until somebody takes it. Environments of one's own that implement `Env` may have one as their
    attribute `recorder`, and say its fields in their spec as `step_fields`."""

    def __init__(self, num_agents: int, fields: Mapping[str, tuple[int, ...]]) -> None:
        self.fields = dict(fields)
        self._sums = {name: np.zeros((num_agents, *shape), np.float32) for name, shape in fields.items()}
        self._extras: list[Any] = [None] * num_agents

    def see(self, agent: int, info: Any) -> None:
        """The info of one frame of an agent. Within the frames of a skip, numbers are summed up, as rewards are.

        Raises:
            EnvContractError: a field has another shape than was said, or is no number.
        """
        if not isinstance(info, Mapping):
            return
        for name, sums in self._sums.items():
            if name in info:
                sums[agent] += _numbers(name, info[name], sums.shape[1:])
        if EXTRAS in info:
            self._extras[agent] = sayable(info[EXTRAS])

    def see_block(self, info: Any) -> None:
        """The info of a vector environment: arrays [A, ...]."""
        if isinstance(info, Mapping):
            for name, sums in self._sums.items():
                if name in info:
                    self._sums[name] = sums + _numbers(name, info[name], sums.shape)

    def take_fields(self, into: Mapping[str, NDArray[np.float32]]) -> None:
        """Moves the numbers of the step into arrays [A, ...]."""
        for name, sums in self._sums.items():
            into[name][...] = sums
            sums[...] = 0.0

    def forget(self) -> None:
        """Leave out what has been seen so far."""
        self.take_extras()
        for sums in self._sums.values():
            sums[...] = 0.0

    def take_extras(self) -> list[Any]:
        """Of each agent, what was said last about its episode; None for nothing."""
        taken, self._extras = self._extras, [None] * len(self._extras)
        return taken


@runtime_checkable
class HasRecorder(Protocol):
    """An environment whose infos are recorded."""

    recorder: InfoRecorder


def _numbers(name: str, value: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
    try:
        numbers = np.asarray(value, np.float32)
    except (TypeError, ValueError):
        numbers = None
    if numbers is None or (numbers.shape != shape and numbers.size != int(np.prod(shape))):
        what = f"of shape {numbers.shape}" if numbers is not None else repr(value)
        wanted = f"a vector of {shape[-1]}" if shape else "a number"
        raise EnvContractError(f"info[{name!r}] is {what}, but --step_fields says that it is {wanted}")
    return numbers.reshape(shape)


def sayable(value: Any) -> Any:
    """The value as JSON says it: arrays become lists, what cannot be said becomes its text."""
    try:
        return json.loads(json.dumps(value, default=_plain))
    except (TypeError, ValueError, RecursionError):
        return repr(value)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else repr(value)
