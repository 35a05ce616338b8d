"""The newest weights of a policy in shared memory, from one learner process to those who act.

There are two copies, and `published` counts how often a new one was completed: copy `published % 2` is the
newest whole one. The learner always writes the other. A reader that was so slow that the learner has begun to
overwrite its copy notices, and reads again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sf_algo.buffers.shared import ArraySpec, SharedBlock

WeightArrays: TypeAlias = Mapping[str, NDArray[Any]]
_COUNTERS = ArraySpec(name="counters", shape=(4,), dtype=np.dtype(np.int64))
_PUBLISHED, _VERSIONS = 0, 2


class SharedWeights:
    """One policy's weights in shared memory: the learner publishes, acting processes read."""

    def __init__(self, block: SharedBlock, specs: Sequence[ArraySpec]) -> None:
        self._block = block
        self._copies = [{spec.name: block.arrays[f"{copy}/{spec.name}"] for spec in specs} for copy in range(2)]
        self._counters = block.counters(_COUNTERS.name)
        self._seen = 0

    @classmethod
    def create(cls, label: str, specs: Sequence[ArraySpec]) -> SharedWeights:
        """`specs` describe the weights once; `attach` is given the same."""
        return cls(SharedBlock.create(label, _doubled(specs)), specs)

    @classmethod
    def attach(cls, fd: int, specs: Sequence[ArraySpec]) -> SharedWeights:
        return cls(SharedBlock(fd, _doubled(specs)), specs)

    @property
    def fd(self) -> int:
        return self._block.fd

    @property
    def block(self) -> SharedBlock:
        return self._block

    def publish(self, fill: Callable[[WeightArrays], None], version: int) -> None:
        """Learner: `fill` writes all weights into the arrays it is given."""
        target = (self._counters[_PUBLISHED] + 1) % 2
        fill(self._copies[target])
        self._counters[_VERSIONS + target] = version
        self._counters[_PUBLISHED] += 1

    @property
    def news(self) -> bool:
        """Whether there are weights that this reader has not taken."""
        return self._counters[_PUBLISHED] != self._seen

    def take(self, read: Callable[[WeightArrays], None]) -> int:
        """Reader: `read` copies the newest weights out; it may be called again. Returns their version."""
        while True:
            published = self._counters[_PUBLISHED]
            assert published > 0, "nothing has been published yet"
            source = published % 2
            read(self._copies[source])
            version = self._counters[_VERSIONS + source]
            # The copy is overwritten while the count stands at published + 1.
            if self._counters[_PUBLISHED] == published:
                self._seen = published
                return version

    def close(self) -> None:
        self._block.close_fd()


def _doubled(specs: Sequence[ArraySpec]) -> list[ArraySpec]:
    copies = [
        ArraySpec(name=f"{copy}/{spec.name}", shape=spec.shape, dtype=spec.dtype) for copy in range(2) for spec in specs
    ]
    return [_COUNTERS, *copies]
