"""Translates gymnasium spaces for many agents at once: observations into blocks, blocks of actions into batches.

Shape letters: A agents, `width` numbers of one action row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array
from numpy.typing import NDArray

from sf_algo.envs.spaces import ObsWriter, PixelFormat, action_decoder
from sf_algo.envs.spec import PLAIN_OBS, ActionSpec, ObsBlock, ObsSpec
from sf_algo.errors import EnvError

Space: TypeAlias = "spaces.Space[Any]"
BatchDecoder: TypeAlias = Callable[[NDArray[np.float32]], Any]
"""Action rows [A, width] -> a batch of gymnasium's batched action space."""

_Path: TypeAlias = "tuple[str | int, ...]"
_Write: TypeAlias = Callable[[Any, NDArray[Any]], None]


class BlockWriter:
    """Writes a batch of observations of a gymnasium space, as vector environments give them, into an `ObsBlock`.

    Names, shapes and types are those of `ObsWriter`.
    """

    def __init__(self, space: Space, *, pixel_format: PixelFormat = "CHW") -> None:
        self.specs: dict[str, ObsSpec] = ObsWriter(space, pixel_format=pixel_format).specs
        self._parts = [(name, path, leaf, _writer(leaf, self.specs[name])) for name, path, leaf in _leaves(space, ())]

    def write(self, batch: Any, block: ObsBlock) -> None:
        """`batch`: arrays [A, ...], nested like the space."""
        for name, path, _, write in self._parts:
            write(_at(batch, path), block[name])

    def write_agents(self, batch: Any, block: ObsBlock, agents: NDArray[np.int64]) -> None:
        """Write only the observations of these agents; those of the others in `batch` may be None."""
        for name, path, _, write in self._parts:
            values = _at(batch, path)
            part = np.stack([np.asarray(values[agent]) for agent in agents])
            picked = block[name][agents]
            write(part, picked)
            block[name][agents] = picked

    def check(self, batch: Any, num_agents: int) -> None:
        """EnvError where the shapes are not those of the space: writing would broadcast them in silence."""
        for name, path, leaf, _ in self._parts:
            shape, expected = np.shape(_at(batch, path)), (num_agents, *(leaf.shape or ()))
            if shape != expected:
                raise EnvError(
                    f"observation {name!r} of a vector environment has shape {shape}, but its spaces say {expected}; "
                    "correct the environment"
                )


def _at(batch: Any, path: _Path) -> Any:
    for key in path:
        batch = batch[key]
    return batch


def _leaves(space: Space, path: _Path) -> Iterator[tuple[str, _Path, Space]]:
    children: Mapping[Any, Space] | None = None
    if isinstance(space, spaces.Dict):
        children = space.spaces
    elif isinstance(space, spaces.Tuple):
        children = dict(enumerate(space.spaces))
    if children is None:
        yield "/".join(str(key) for key in path) or PLAIN_OBS, path, space
        return
    for key, child in children.items():
        yield from _leaves(child, (*path, key))


def _writer(space: Space, spec: ObsSpec) -> _Write:
    if isinstance(space, spaces.Discrete):
        return _one_hot(np.array([space.n]), np.array([space.start]))
    if isinstance(space, spaces.MultiDiscrete) and spec.shape != tuple(space.shape):
        return _one_hot(np.ravel(space.nvec), np.ravel(space.start))
    shape = tuple(space.shape or ())
    if len(shape) == 3 and spec.shape == (shape[2], shape[0], shape[1]) != shape:
        return _copy_hwc
    return _copy


def _copy(values: Any, dest: NDArray[Any]) -> None:
    dest[...] = np.asarray(values).reshape(dest.shape)


def _copy_hwc(values: Any, dest: NDArray[Any]) -> None:
    dest[...] = np.asarray(values).transpose(0, 3, 1, 2)


def _one_hot(sizes: NDArray[Any], starts: NDArray[Any]) -> _Write:
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64) - starts

    def write(values: Any, dest: NDArray[Any]) -> None:
        chosen = np.asarray(values).reshape(len(dest), -1) + offsets
        dest[...] = 0
        np.put_along_axis(dest, chosen, 1, axis=1)

    return write


def batch_decoder(space: Space, num_agents: int) -> tuple[ActionSpec, BatchDecoder]:
    """The `ActionSpec` of one agent's action space, and the function from action rows to a batch for all agents.

    Raises EnvError for spaces that `action_decoder` refuses.
    """
    spec, decode_one = action_decoder(space)
    if isinstance(space, spaces.Discrete):
        dtype, start = np.dtype(space.dtype), space.start
        return spec, lambda rows: rows[:, 0].astype(dtype) + start
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        box, low, high = space, space.low, space.high

        def decode_box(rows: NDArray[np.float32]) -> Any:
            # Bounds are kept in the type of the space: a bound that float32 cannot hold would be left otherwise.
            return np.clip(rows.reshape(num_agents, *box.shape).astype(box.dtype), low, high)

        return spec, decode_box

    def decode_each(rows: NDArray[np.float32]) -> Any:
        actions = [decode_one(row) for row in rows]
        empty: Any = create_empty_array(space, n=num_agents, fn=np.zeros)
        return concatenate(space, actions, empty)

    return spec, decode_each
