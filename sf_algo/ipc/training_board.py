"""What the main process tells the workers while a training runs: frames so far, the reward shaping of every policy, and
who acts where (`Roster`). One writer; readers look when they like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sf_algo.buffers.shared import ArraySpec, SharedBlock
from sf_algo.ipc.roster import Roster, roster_specs
from sf_algo.own.training_info import TrainingInfo


class TrainingBoard:
    """A small piece of shared memory. Use `create` in the main process and `attach` in workers."""

    def __init__(self, block: SharedBlock, names: Sequence[str]) -> None:
        self._block = block
        self._names = tuple(names)
        self._env_steps = block.counters("env_steps")
        self._is_set = block.counters("is_set")
        self._shaping = block.arrays["shaping"]
        self.info = TrainingInfo(self._env_steps)
        self.roster = Roster(block)

    @classmethod
    def create(cls, *, num_acting: int, shaping: Sequence[str], num_roles: int = 1) -> TrainingBoard:
        """`num_acting`: policies that act. `shaping`: the names of the numbers that shape rewards. Raises
        StorageError."""
        return cls(SharedBlock.create("sf_algo_training", _specs(num_acting, len(shaping), num_roles)), shaping)

    @classmethod
    def attach(cls, fd: int, *, num_acting: int, shaping: Sequence[str], num_roles: int = 1) -> TrainingBoard:
        """Maps the memory behind an inherited descriptor."""
        return cls(SharedBlock(fd, _specs(num_acting, len(shaping), num_roles)), shaping)

    @property
    def fd(self) -> int:
        return self._block.fd

    def set_env_steps(self, frames: int) -> None:
        """Main process: frames collected so far."""
        self._env_steps[0] = frames

    def shaping(self, policy: int) -> dict[str, float] | None:
        """The shaping of a policy; None where it has that which the environment begins with."""
        if not self._is_set[policy]:
            return None
        # One number more than names where there are none: memory of no size cannot be had.
        return dict(zip(self._names, self._shaping[policy].tolist(), strict=False))

    def set_shaping(self, policy: int, values: Mapping[str, float]) -> None:
        """Main process: all numbers of a policy's shaping. Agents have them from their next episode on."""
        self._shaping[policy, : len(self._names)] = [values[name] for name in self._names]
        self._is_set[policy] = 1

    def close(self) -> None:
        self._block.close_fd()


def _specs(num_acting: int, num_names: int, num_roles: int) -> list[ArraySpec]:
    word = np.dtype(np.int64)
    return [
        ArraySpec(name="env_steps", shape=(1,), dtype=word),
        ArraySpec(name="is_set", shape=(num_acting,), dtype=word),
        ArraySpec(name="shaping", shape=(num_acting, max(1, num_names)), dtype=np.dtype(np.float64)),
        *roster_specs(num_acting, num_roles),
    ]
