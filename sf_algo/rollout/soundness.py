"""Finds numbers that are none (NaN, infinities) in what environments wrote, before anybody reads them.

One look at a whole row of a slot costs less than one per environment: under 1 us per observation and split.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sf_algo.buffers.layout import OBS_PREFIX, TrajectoryArrays
from sf_algo.envs.spec import ACTION_MASK, Discrete, EnvSpec

_INFINITY = float("inf")


def all_finite(array: NDArray[np.floating]) -> bool:
    """Whether a contiguous array holds nothing but finite numbers."""
    flat = array.reshape(-1)
    # The sum of squares is infinite or NaN where any number is; only then (or near the limits of the type) look closer.
    return bool(np.vdot(flat, flat) < _INFINITY) or bool(np.isfinite(flat).all())


class RowCheck:
    """Checks the observations of a split, row by row. Columns are the split's agents."""

    def __init__(self, spec: EnvSpec) -> None:
        self._keys = [OBS_PREFIX + name for name, obs in spec.obs.items() if np.issubdtype(obs.dtype, np.floating)]
        self._mask = OBS_PREFIX + ACTION_MASK if ACTION_MASK in spec.obs else None
        sizes = [c.n for c in spec.actions.components if isinstance(c, Discrete)]
        self._first_choices = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.intp) if sizes else None

    def is_sound(self, slot: TrajectoryArrays, row: int) -> bool:
        """Whether every number of that row's observations is finite."""
        for key in self._keys:  # noqa: SIM110 - a generator would cost as much as the look itself
            if not all_finite(slot[key][row]):
                return False
        return True

    def unsound_columns(self, slot: TrajectoryArrays, row: int) -> list[int]:
        """The columns in which a number is not finite."""
        bad = np.zeros(slot["rewards"].shape[1], np.bool_)
        for key in self._keys:
            observed = slot[key][row]
            bad |= ~np.isfinite(observed).reshape(len(bad), -1).all(axis=1)
        columns: list[int] = np.flatnonzero(bad).tolist()
        return columns

    def what_is_wrong(self, slot: TrajectoryArrays, row: int, column: int) -> str:
        """In words, for the first such number of that column."""
        for key in self._keys:
            observed = slot[key][row, column]
            wrong = np.argwhere(~np.isfinite(observed))
            if len(wrong):
                where = tuple(wrong[0].tolist())
                at = f" at {list(where)}" if where else ""
                return f"its observation {key.removeprefix(OBS_PREFIX)!r} is {observed[where]}{at}"
        return "its observation is not finite"

    def make_finite(self, slot: TrajectoryArrays, row: int, column: int) -> None:
        """Zeros in place of what is not finite: for agents who are out of the game."""
        for key in self._keys:
            observed = slot[key][row, column]
            slot[key][row, column] = np.where(np.isfinite(observed), observed, 0)

    def columns_without_choice(self, slot: TrajectoryArrays, row: int) -> list[int]:
        """The columns whose action mask forbids every choice of some component."""
        if self._mask is None or self._first_choices is None:
            return []
        allowed = np.logical_or.reduceat(slot[self._mask][row] != 0, self._first_choices, axis=1)
        return [] if allowed.all() else np.flatnonzero(~allowed.all(axis=1)).tolist()
