"""Anonymous shared memory: a file descriptor and arrays over it. There is no name, so nothing can be left
behind."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf_algo.buffers.layout import TrajectoryArrays, TrajectoryLayout
from sf_algo.errors import StorageError

_ALIGNMENT = 64  # one cache line, so that two arrays never share one


@dataclass(frozen=True, kw_only=True)
class ArraySpec:
    """One array inside a block of shared memory."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def block_bytes(specs: Sequence[ArraySpec]) -> int:
    """Size of a block that holds all arrays, each at a cache line's start."""
    return max(_ALIGNMENT, sum(_aligned(spec.nbytes) for spec in specs))


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT


class SharedBlock:
    """Memory that several processes map. Each of them computes the same offsets from the same `specs`.

    The memory lives as long as any process has the descriptor open or the memory mapped; it is zeroed at
    first.
    """

    def __init__(self, fd: int, specs: Sequence[ArraySpec]) -> None:
        """Maps the arrays; `fd` (from `create` or inherited) stays open until `close_fd`."""
        self.fd = fd
        self._map = mmap.mmap(fd, block_bytes(specs))
        self.arrays: Mapping[str, NDArray[Any]] = self._views(specs)

    @classmethod
    def create(cls, label: str, specs: Sequence[ArraySpec]) -> SharedBlock:
        """New zeroed memory; `label` only shows up in /proc. Raises StorageError when there is not enough."""
        nbytes = block_bytes(specs)
        fd = _anonymous_file(label)
        try:
            os.ftruncate(fd, nbytes)
            return cls(fd, specs)
        except OSError as error:
            os.close(fd)
            raise StorageError(
                f"no memory for {label} ({nbytes / 2**20:.0f} MiB: {error.strerror}); use fewer environments "
                "(--num_workers, --num_envs_per_worker) or shorter rollouts (--rollout)"
            ) from error

    def _views(self, specs: Sequence[ArraySpec]) -> dict[str, NDArray[Any]]:
        views, offset = {}, 0
        for spec in specs:
            count = int(np.prod(spec.shape, dtype=np.int64))
            flat = np.frombuffer(self._map, spec.dtype, count=count, offset=offset)
            views[spec.name] = flat.reshape(spec.shape)
            offset += _aligned(spec.nbytes)
        return views

    @property
    def span(self) -> tuple[int, int]:
        """Address in this process, and bytes."""
        everything = np.frombuffer(self._map, np.uint8)
        return everything.ctypes.data, everything.nbytes

    def counters(self, name: str) -> memoryview[int]:
        """A one-dimensional int64 array as a memoryview: reads and writes are single machine words and
        cheap."""
        array = self.arrays[name]
        assert array.dtype == np.int64, "counters are int64"
        return memoryview(array.reshape(-1).data).cast("B").cast("q")

    def close_fd(self) -> None:
        """Close the descriptor; mapped arrays stay usable until they are garbage."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _anonymous_file(label: str) -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create(label, os.MFD_CLOEXEC)
    fd, path = tempfile.mkstemp(prefix="sf_algo_")
    os.unlink(path)  # noqa: PTH108 - gone from the file system before anybody can crash
    return fd


def trajectory_specs(layout: TrajectoryLayout, *, slots: int, trajectories: int) -> list[ArraySpec]:
    """Arrays [slots, T or T+1, N, ...] for one worker."""
    return [
        ArraySpec(name=field.name, shape=(slots, *layout.shape(field, trajectories)), dtype=field.dtype)
        for field in layout.fields
    ]


def slot_views(arrays: Mapping[str, NDArray[Any]]) -> list[TrajectoryArrays]:
    """The arrays of `trajectory_specs`, cut into one dictionary per slot."""
    slots = len(next(iter(arrays.values())))
    return [{name: array[slot] for name, array in arrays.items()} for slot in range(slots)]
