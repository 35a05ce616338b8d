"""The actions of the episodes under way: replaying them brings a reproducible environment back to where it
was."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_TRIM_AFTER = 1024


class ActionLog:
    """For every environment of a split, what has been done since its reset.

    Steps of the whole split are stored once, as one array; an environment's episode is a suffix of that list,
    after steps that it took alone (`append_one`).
    """

    def __init__(self, columns: Sequence[slice]) -> None:
        """`columns[e]` are environment e's columns of the split's action rows."""
        self._columns = columns
        self._alone: list[list[NDArray[np.float32]]] = [[] for _ in columns]
        self._shared: list[NDArray[np.float32]] = []
        self._first = 0
        self._starts = [0] * len(columns)
        self._ignored: list[set[int]] = [set() for _ in columns]

    def append(self, actions: NDArray[np.float32]) -> None:
        """The whole split acted: [N, width]."""
        self._shared.append(actions.copy())

    def append_one(self, e: int, actions: NDArray[np.float32]) -> None:
        """Environment e acted alone: [A, width]. Only before the split's steps of that episode."""
        self._alone[e].append(actions.copy())
        self._starts[e] = self._first + len(self._shared)

    def ignore_last(self, e: int) -> None:
        """Environment e did not carry out what the whole split was told last (a filler row)."""
        self._ignored[e].add(self._first + len(self._shared) - 1)

    def restart(self, e: int) -> None:
        """Environment e was reset; actions of its row so far do not belong to the new episode."""
        self._alone[e].clear()
        self._ignored[e].clear()
        self._starts[e] = self._first + len(self._shared)
        unused = min(self._starts) - self._first
        if unused > _TRIM_AFTER:
            del self._shared[:unused]
            self._first += unused

    def episode(self, e: int) -> NDArray[np.float32]:
        """[steps since the reset, A, width]; [0, ...] right after it."""
        columns = self._columns[e]
        start, ignored = self._starts[e], self._ignored[e]
        shared = self._shared[start - self._first :]
        rows = self._alone[e] + [row[columns] for index, row in enumerate(shared, start) if index not in ignored]
        return np.stack(rows) if rows else np.zeros((0, 0, 0), np.float32)
