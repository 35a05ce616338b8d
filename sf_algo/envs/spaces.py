"""Translates gymnasium spaces: observations into arrays, action rows into what an environment takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from sf_algo.envs.spec import (
    ACTION_MASK,
    PLAIN_OBS,
    ActionComponent,
    ActionSpec,
    Box,
    Discrete,
    ObsRow,
    ObsSpec,
)
from sf_algo.errors import EnvError

Space: TypeAlias = "spaces.Space[Any]"
PixelFormat = Literal["CHW", "HWC"]
Decoder: TypeAlias = Callable[[NDArray[np.float32]], Any]
"""Action row [width] -> what the environment's step takes."""

_Convert: TypeAlias = Callable[[Any, NDArray[Any]], None]
_IMAGE_CHANNELS = (1, 3, 4)


class _Leaf:
    """One array of the observation: where it lies in the nested observation, and how it is written."""

    def __init__(self, *, path: tuple[str | int, ...], spec: ObsSpec, source: Space, convert: _Convert) -> None:
        self.path = path
        self.spec = spec
        self._source_shape: tuple[int, ...] = tuple(source.shape or ())
        self._convert = convert

    def check(self, value: Any, name: str) -> None:
        """Assignment would broadcast a wrong shape in silence: every first observation is checked."""
        if np.shape(value) != self._source_shape:
            raise EnvError(
                f"observation {name!r} has shape {np.shape(value)}, but the environment's observation_space "
                f"says {self._source_shape}; correct the environment"
            )

    @property
    def is_copied(self) -> bool:
        """Written as it is, without anything to remember."""
        return self._convert is _copy

    def write(self, value: Any, dest: NDArray[Any], first: bool) -> None:
        del first
        self._convert(value, dest)


class _StackedLeaf(_Leaf):
    """The last `depth` images, oldest first, along the channels."""

    def __init__(self, leaf: _Leaf, depth: int) -> None:
        self.__dict__.update(leaf.__dict__)
        self._channels = leaf.spec.shape[0]
        self.spec = ObsSpec(shape=(self._channels * depth, *leaf.spec.shape[1:]), dtype=leaf.spec.dtype)
        self._frames = self.spec.zeros()

    @property
    def is_copied(self) -> bool:
        return False

    def write(self, value: Any, dest: NDArray[Any], first: bool) -> None:
        frames, channels = self._frames, self._channels
        if first:
            for start in range(0, len(frames), channels):
                self._convert(value, frames[start : start + channels])
        else:
            frames[:-channels] = frames[channels:]
            self._convert(value, frames[-channels:])
        dest[...] = frames


class ObsWriter:
    """Writes one agent's observation of a gymnasium space into an `ObsRow`.

    Images (uint8, two or three dimensions) become uint8 CHW, other numbers float32 (a vector of bytes stays
    uint8), a choice among n a one-hot vector. Nested dictionaries and tuples become names joined by "/".
    """

    def __init__(self, space: Space, *, pixel_format: PixelFormat = "CHW", framestack: int = 1) -> None:
        leaves = dict(_leaves(space, (), pixel_format))
        if framestack > 1:
            images = {name for name, leaf in leaves.items() if leaf.spec.is_image}
            if not images:
                raise EnvError("--env_framestack stacks images; this environment observes none (leave it at 1)")
            leaves.update({name: _StackedLeaf(leaves[name], framestack) for name in images})
        self.specs: dict[str, ObsSpec] = {name: leaf.spec for name, leaf in leaves.items()}
        self._leaves = leaves
        only = leaves.get(PLAIN_OBS)
        self._plain = only if only is not None and len(leaves) == 1 and not only.path else None

    def write(self, obs: Any, row: ObsRow, *, first: bool = False) -> None:
        """Write `obs`; `first` marks the first of an episode. Raises EnvError on a wrong shape."""
        if first:
            for name, leaf in self._leaves.items():
                leaf.check(_at(obs, leaf.path), name)
        if self._plain is not None:
            self._plain.write(obs, row[PLAIN_OBS], first)
            return
        for name, leaf in self._leaves.items():
            leaf.write(_at(obs, leaf.path), row[name], first)

    def step_writer(self) -> Callable[[Any, ObsRow], None]:
        """A function that writes an observation which is not the first of its episode; the fastest for the space."""
        plain = self._plain
        return _write_copy if plain is not None and plain.is_copied else self.write


def _at(obs: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        obs = obs[key]
    return obs


def _leaves(space: Space, path: tuple[str | int, ...], pixel_format: PixelFormat) -> list[tuple[str, _Leaf]]:
    children: Mapping[Any, Space] | None = None
    if isinstance(space, spaces.Dict):
        children = space.spaces
    elif isinstance(space, spaces.Tuple):
        children = dict(enumerate(space.spaces))
    if children is not None:
        return [leaf for key, sub in children.items() for leaf in _leaves(sub, (*path, key), pixel_format)]
    name = "/".join(str(key) for key in path) or PLAIN_OBS
    spec, convert = _mask_leaf(space) if name == ACTION_MASK else _array_leaf(space, pixel_format, name)
    return [(name, _Leaf(path=path, spec=spec, source=space, convert=convert))]


def _write_copy(obs: Any, row: ObsRow) -> None:
    row[PLAIN_OBS][...] = obs


def _copy(value: Any, dest: NDArray[Any]) -> None:
    dest[...] = value


def _copy_hwc(value: Any, dest: NDArray[Any]) -> None:
    dest[...] = value.transpose(2, 0, 1)


def _copy_flat(value: Any, dest: NDArray[Any]) -> None:
    dest[...] = np.ravel(value)


def _mask_leaf(space: Space) -> tuple[ObsSpec, _Convert]:
    if not space.shape:
        raise EnvError(f"observation {ACTION_MASK!r} must be a vector with one entry per choice, got {space}")
    return ObsSpec(shape=(int(np.prod(space.shape)),), dtype=np.dtype(np.int8)), _copy_flat


def _array_leaf(space: Space, pixel_format: PixelFormat, name: str) -> tuple[ObsSpec, _Convert]:
    if isinstance(space, spaces.Box):
        return _box_leaf(space, pixel_format)
    if isinstance(space, spaces.MultiBinary):
        return ObsSpec(shape=tuple(space.shape), dtype=np.dtype(np.float32)), _copy
    if isinstance(space, spaces.Discrete):
        return _one_hot_leaf(np.array([space.n]), np.array([space.start]))
    if isinstance(space, spaces.MultiDiscrete):
        return _one_hot_leaf(np.ravel(space.nvec), np.ravel(space.start))
    raise EnvError(
        f"observation {name!r} is a {type(space).__name__} space, which has no array form; wrap the "
        "environment so that it observes Box, Discrete, MultiDiscrete, MultiBinary or dictionaries of them"
    )


def _box_leaf(space: spaces.Box, pixel_format: PixelFormat) -> tuple[ObsSpec, _Convert]:
    shape = tuple(space.shape)
    if space.dtype != np.uint8:
        return ObsSpec(shape=shape or (1,), dtype=np.dtype(np.float32)), _copy
    byte = np.dtype(np.uint8)
    if len(shape) == 2:
        return ObsSpec(shape=(1, *shape), dtype=byte), _copy
    if len(shape) == 3 and _is_hwc(shape, pixel_format):
        return ObsSpec(shape=(shape[2], shape[0], shape[1]), dtype=byte), _copy_hwc
    return ObsSpec(shape=shape or (1,), dtype=byte), _copy


def _is_hwc(shape: tuple[int, ...], pixel_format: PixelFormat) -> bool:
    """The channel axis is the one of 1, 3 or 4 entries; --pixel_format decides where that does not."""
    first, last = shape[0] in _IMAGE_CHANNELS, shape[2] in _IMAGE_CHANNELS
    return last if first != last else pixel_format == "HWC"


def _one_hot_leaf(sizes: NDArray[Any], starts: NDArray[Any]) -> tuple[ObsSpec, _Convert]:
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64) - starts

    def convert(value: Any, dest: NDArray[Any]) -> None:
        dest[...] = 0
        dest[np.ravel(value) + offsets] = 1

    return ObsSpec(shape=(int(sizes.sum()),), dtype=np.dtype(np.float32)), convert


def action_decoder(space: Space) -> tuple[ActionSpec, Decoder]:
    """The `ActionSpec` of a gymnasium action space and the function from an action row to an action.

    Numbers outside a Box's bounds are clipped to them. Raises EnvError for spaces that are no combination of
    Discrete, MultiDiscrete, MultiBinary, Box, Tuple and Dict.
    """
    components, decode = _action(space)
    return ActionSpec(tuple(components)), decode


def _action(space: Space) -> tuple[list[ActionComponent], Decoder]:
    if isinstance(space, spaces.Discrete):
        # The space's own scalars, as its `sample` gives them: checking them costs half of what an int does.
        dtype: Any = np.dtype(space.dtype).type
        choices = [dtype(space.start + choice) for choice in range(int(space.n))]
        return [Discrete(len(choices))], lambda row: choices[int(row.item(0))]
    if isinstance(space, spaces.MultiDiscrete):
        return _multi_discrete(np.asarray(space.nvec), np.asarray(space.start), np.dtype(space.dtype))
    if isinstance(space, spaces.MultiBinary):
        sizes = np.full(space.shape, 2)
        return _multi_discrete(sizes, np.zeros_like(sizes), np.dtype(space.dtype))
    if isinstance(space, spaces.Box):
        return _box_action(space)
    if isinstance(space, spaces.Tuple):
        components, decode_parts = _composite(list(space.spaces))
        return components, lambda row: tuple(decode_parts(row))
    if isinstance(space, spaces.Dict):
        keys = list(space.spaces)
        components, decode_parts = _composite([space.spaces[key] for key in keys])
        return components, lambda row: dict(zip(keys, decode_parts(row), strict=True))
    raise EnvError(f"the action space {space} is not supported: use Discrete, MultiDiscrete, Box, Tuple or Dict")


def _multi_discrete(
    sizes: NDArray[Any], starts: NDArray[Any], dtype: np.dtype[Any]
) -> tuple[list[ActionComponent], Decoder]:
    shape = sizes.shape

    def decode(row: NDArray[np.float32]) -> Any:
        return row.astype(dtype).reshape(shape) + starts

    return [Discrete(int(n)) for n in sizes.ravel()], decode


def _box_action(space: spaces.Box) -> tuple[list[ActionComponent], Decoder]:
    dtype, shape = np.dtype(space.dtype), tuple(space.shape)
    low, high = space.low.ravel().astype(np.float32), space.high.ravel().astype(np.float32)
    whole = np.issubdtype(dtype, np.integer)
    plain = dtype == np.float32 and len(shape) == 1

    def decode(row: NDArray[np.float32]) -> Any:
        clipped = np.minimum(np.maximum(row, low), high)
        if plain:
            return clipped
        return (np.rint(clipped) if whole else clipped).astype(dtype).reshape(shape)

    return [Box(tuple(low.tolist()), tuple(high.tolist()))], decode


def _composite(
    parts: list[Space],
) -> tuple[list[ActionComponent], Callable[[NDArray[np.float32]], list[Any]]]:
    components: list[ActionComponent] = []
    decoders: list[tuple[slice, Decoder]] = []
    start = 0
    for part in parts:
        sub, decode = _action(part)
        width = sum(component.width for component in sub)
        components += sub
        decoders.append((slice(start, start + width), decode))
        start += width
    return components, lambda row: [decode(row[where]) for where, decode in decoders]
