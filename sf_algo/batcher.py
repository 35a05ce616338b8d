"""Collects full slots into training batches of one policy, in a queue (`Batcher`) or round by round (`RoundBatcher`).

Shape letters: T rollout length, N trajectories of a slot, B trajectories of a batch.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sf_algo.buffers.layout import OBS_PREFIX, STEP_PREFIX, TrajectoryArrays
from sf_algo.learner.batch import TrajectoryBatch


@dataclass(frozen=True)
class FullBatch:
    """A batch to train on, and how many of its steps are valid and this policy's."""

    batch: TrajectoryBatch
    valid_steps: int


class Batcher:
    """Where a learner trains beside the sampling: batches of one size, of which some wait. Copies trajectories side by
    side into batch buffers; a slot may go on in the next batch.

    The number of buffers bounds how far sampling runs ahead of learning. One thread collects (`has_room`,
    `add`); the same one or another takes full batches (`take`) and gives their memory back (`give_back`).
    """

    def __init__(
        self, *, policy_id: int, trajectories: int, num_buffers: int, allocate: Callable[[], TrajectoryBatch]
    ) -> None:
        """`allocate` makes a buffer of `trajectories` = B columns; each is made when first needed."""
        self._policy_id = policy_id
        self._trajectories = trajectories
        self._allocate = allocate
        self._unallocated = num_buffers
        self._free: deque[TrajectoryBatch] = deque()
        self._full: deque[FullBatch] = deque()
        self._arrays: dict[int, TrajectoryArrays] = {}
        self._filling: TrajectoryBatch | None = None
        self._columns = 0
        self._valid_steps = 0
        self._num_taken = 0

    @property
    def is_idle(self) -> bool:
        """Nobody trains on a batch of this policy, and none is full."""
        return not self._full and not self._num_taken

    def has_room(self, columns: int) -> bool:
        """Whether a slot of that many columns can be added completely."""
        free = self._unallocated + len(self._free)
        partly = self._trajectories - self._columns if self._filling is not None else 0
        return free * self._trajectories + partly >= columns

    def add(self, slot: TrajectoryArrays) -> int:
        """Copies this policy's trajectories of a full slot. Returns how many valid steps they hold."""
        mine = slot["policy_id"] == self._policy_id
        columns = np.flatnonzero(mine.any(axis=0))
        valid = np.count_nonzero(slot["valid"] & mine, axis=0)
        start = 0
        while start < len(columns):
            if self._filling is None:
                self._filling, self._columns, self._valid_steps = self._next_buffer(), 0, 0
            taken = columns[start : start + self._trajectories - self._columns]
            _copy_columns(slot, taken, self._arrays[id(self._filling)], self._columns)
            self._valid_steps += int(valid[taken].sum())
            start += len(taken)
            self._columns += len(taken)
            if self._columns == self._trajectories:
                self._full.append(FullBatch(self._filling, self._valid_steps))
                self._filling = None
        return int(valid.sum())

    def _next_buffer(self) -> TrajectoryBatch:
        if self._free:
            return self._free.popleft()
        assert self._unallocated > 0, "a slot was added without room"
        self._unallocated -= 1
        batch = self._allocate()
        self._arrays[id(batch)] = batch_arrays(batch)
        return batch

    @property
    def num_full(self) -> int:
        return len(self._full)

    def take(self) -> FullBatch | None:
        """The oldest full batch, or None. Its memory stays the caller's until `give_back`."""
        if not self._full:
            return None
        self._num_taken += 1
        return self._full.popleft()

    def give_back(self, batch: TrajectoryBatch) -> None:
        """The batch has been trained on; its memory is filled anew."""
        self._free.append(batch)
        self._num_taken -= 1


class RoundBatcher:
    """Where sampling and learning take turns: a batch is all that a policy has collected, once that is enough.

    `take` comes between two rounds, when nobody acts: so nothing is left over that would be older than the policy which
    learns from it, and until then the policy stays as it is. What was done with other weights is not collected at all.
    """

    def __init__(
        self,
        *,
        policy_id: int,
        trajectories: int,
        most_trajectories: int,
        version: Callable[[], int],
        allocate: Callable[[int], TrajectoryBatch],
    ) -> None:
        """`trajectories` are enough for a batch, and no round brings it beyond `most_trajectories`. `version` is that
        of the weights that act; `allocate(columns)` makes the buffer when it is first needed."""
        self._policy_id = policy_id
        self._trajectories = trajectories
        self._most_trajectories = most_trajectories
        self._version = version
        self._allocate = allocate
        self._buffer: TrajectoryBatch | None = None
        self._arrays: TrajectoryArrays = {}
        self._valid_steps = 0
        self.columns = 0
        """Trajectories collected so far."""

    @property
    def is_idle(self) -> bool:
        """Nobody trains while somebody collects."""
        return True

    def has_room(self, columns: int) -> bool:
        """There is, for every slot of a round."""
        return True

    def add(self, slot: TrajectoryArrays) -> int:
        """Copies this policy's trajectories of a full slot. Returns how many valid steps they hold."""
        mine = (slot["policy_id"] == self._policy_id) & (slot["policy_version"] == self._version())
        columns = np.flatnonzero(mine.any(axis=0))
        if not len(columns):
            return 0
        if self._buffer is None:
            self._buffer = self._allocate(self._most_trajectories)
            self._arrays = batch_arrays(self._buffer)
        assert self.columns + len(columns) <= self._most_trajectories, "a full batch was not taken between two rounds"
        _copy_columns(slot, columns, self._arrays, self.columns)
        self.columns += len(columns)
        valid = int(np.count_nonzero(slot["valid"] & mine))
        self._valid_steps += valid
        return valid

    def take(self) -> FullBatch | None:
        """All that has been collected, if it is enough. Its memory stays the caller's until the next `add`."""
        if self._buffer is None or self.columns < self._trajectories:
            return None
        full = FullBatch(self._buffer.first(self.columns), self._valid_steps)
        self.forget()
        return full

    def give_back(self, batch: TrajectoryBatch) -> None:
        """The batch has been trained on."""

    def forget(self) -> None:
        """The policy has become another one: what it has collected is of no use."""
        self.columns = self._valid_steps = 0

    def unfinished(self) -> TrajectoryArrays:
        """Copies of the trajectories collected for the next batch, which may be added later as a slot is; empty if
        there are none."""
        if not self.columns:
            return {}
        return {name: array[:, : self.columns].copy() for name, array in self._arrays.items()}


def _copy_columns(slot: TrajectoryArrays, columns: NDArray[np.intp], target: TrajectoryArrays, begin: int) -> None:
    """Copies these columns of a slot into a batch, from column `begin` on."""
    whole = len(columns) == slot["rewards"].shape[1]
    end = begin + len(columns)
    for name, array in target.items():
        array[:, begin:end] = slot[name] if whole else slot[name][:, columns]


def batch_arrays(batch: TrajectoryBatch) -> TrajectoryArrays:
    """Views of a batch in host memory under the names of a slot's fields."""
    fields = [field.name for field in dataclasses.fields(batch) if field.name not in ("obs", "step_fields")]
    tensors: dict[str, Tensor] = {name: getattr(batch, name) for name in fields}
    tensors |= {OBS_PREFIX + name: tensor for name, tensor in batch.obs.items()}
    tensors |= {STEP_PREFIX + name: tensor for name, tensor in batch.step_fields.items()}
    return {name: tensor.numpy() for name, tensor in tensors.items()}
