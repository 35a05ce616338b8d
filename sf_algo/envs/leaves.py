"""The arrays that an observation consists of: what form each takes, and how a value is checked and written.

Whatever an environment returns is compared with its observation space in every step, at about 0.1 us per array:
assignment would broadcast a wrong shape and cut a wrong type in silence.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from sf_algo.envs.foreign_arrays import to_numpy
from sf_algo.envs.spec import ObsSpec
from sf_algo.errors import EnvContractError, EnvError

Space: TypeAlias = "spaces.Space[Any]"
PixelFormat = Literal["CHW", "HWC"]
Path: TypeAlias = "tuple[str | int, ...]"
_Convert: TypeAlias = Callable[[Any, NDArray[Any]], None]

TEXT_NUMBERS = 64
"""Length of the vector that stands for a text."""
_IMAGE_CHANNELS = (1, 3, 4)
_SMALL_AXIS = 4
"""An axis this much shorter than both others of an image is that of the channels."""
_FLOAT, _BYTE, _MASK = np.dtype(np.float32), np.dtype(np.uint8), np.dtype(np.int8)


class Leaf:
    """One array of the observation: where it lies in the nested observation, and how it is written."""

    def __init__(self, *, name: str, path: Path, spec: ObsSpec) -> None:
        self.name = name
        self.path = path
        self.spec = spec

    def write(self, value: Any, dest: NDArray[Any], first: bool) -> None:
        """Writes `value`, of the first observation of an episode or a later one. Raises EnvContractError where it is
        none of the space's."""
        raise NotImplementedError

    def write_batch(self, values: Any, dest: NDArray[Any]) -> None:
        """The same for dest [A, ...]: values of as many agents, as vector environments nest them."""
        self._count(values, dest)
        for value, own in zip(values, dest, strict=True):
            self.write(value, own, True)

    def _count(self, values: Any, dest: NDArray[Any]) -> None:
        if len(values) != len(dest):
            raise self.refusal(f"comes from {len(values)} environments of {len(dest)}")

    def refusal(self, what: str) -> EnvContractError:
        return EnvContractError(f"observation {self.name!r} {what}; correct the environment or its observation_space")


class ArrayLeaf(Leaf):
    """Numbers of a Box or of MultiBinary."""

    def __init__(self, *, name: str, path: Path, spec: ObsSpec, source: Space, hwc: bool = False) -> None:
        super().__init__(name=name, path=path, spec=spec)
        self.shape: tuple[int, ...] = tuple(source.shape or ())
        self.dtype = np.dtype(source.dtype)
        self.hwc = hwc

    def fitted(self, value: Any, leading: tuple[int, ...] = ()) -> NDArray[Any]:
        """The value as an array that may be copied; its shape is the space's behind `leading` axes."""
        try:
            array = to_numpy(value)
        except ValueError:  # ragged
            raise self.refusal("is no array of numbers") from None
        shape = (*leading, *self.shape)
        if array.shape != shape:
            raise self.refusal(f"has shape {array.shape}, but the observation_space says {shape}")
        if array.dtype.kind not in "biuf":
            raise self.refusal(f"holds {array.dtype}, no numbers")
        if self.spec.dtype == _BYTE and array.dtype != _BYTE and array.size:
            whole = array.dtype.kind != "f" or bool((np.rint(array) == array).all())
            if not whole or array.min() < 0 or array.max() > 255:
                raise self.refusal(
                    f"holds {array.dtype} numbers from {array.min():g} to {array.max():g}, but the observation_space "
                    "says uint8: whole numbers from 0 to 255"
                )
        return array

    def write(self, value: Any, dest: NDArray[Any], first: bool) -> None:
        if type(value) is not np.ndarray or value.shape != self.shape or value.dtype is not self.dtype:
            value = self.fitted(value)
        dest[...] = value.transpose(2, 0, 1) if self.hwc else value

    def write_batch(self, values: Any, dest: NDArray[Any]) -> None:
        array = self.fitted(values, dest.shape[:1])
        dest[...] = array.transpose(0, 3, 1, 2) if self.hwc else array.reshape(dest.shape)


class StackedLeaf(Leaf):
    """The last `depth` images, oldest first, along the channels."""

    def __init__(self, leaf: Leaf, depth: int) -> None:
        self._leaf = leaf
        self._channels = leaf.spec.shape[0]
        spec = ObsSpec(shape=(self._channels * depth, *leaf.spec.shape[1:]), dtype=leaf.spec.dtype)
        super().__init__(name=leaf.name, path=leaf.path, spec=spec)
        self._frames = spec.zeros()

    def write(self, value: Any, dest: NDArray[Any], first: bool) -> None:
        frames, channels = self._frames, self._channels
        if first:
            for start in range(0, len(frames), channels):
                self._leaf.write(value, frames[start : start + channels], first)
        else:
            frames[:-channels] = frames[channels:]
            self._leaf.write(value, frames[-channels:], first)
        dest[...] = frames


class OneHotLeaf(Leaf):
    """Choices: a one-hot vector for each, side by side."""

    def __init__(self, *, name: str, path: Path, sizes: NDArray[Any], starts: NDArray[Any], shape: Any) -> None:
        super().__init__(name=name, path=path, spec=ObsSpec(shape=(int(sizes.sum()),), dtype=_FLOAT))
        self._shape = tuple(shape)
        self._sizes, self._starts = sizes.astype(np.int64), starts.astype(np.int64)
        self._offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)

    def write(self, value: Any, dest: NDArray[Any], first: bool) -> None:
        dest.fill(0)
        dest[self._chosen(value, ()) + self._offsets] = 1

    def write_batch(self, values: Any, dest: NDArray[Any]) -> None:
        chosen = self._chosen(values, dest.shape[:1]).reshape(len(dest), -1)
        dest.fill(0)
        np.put_along_axis(dest, chosen + self._offsets, 1, axis=1)

    def _chosen(self, value: Any, leading: tuple[int, ...]) -> NDArray[np.int64]:
        """Choices counted from 0, [..., choices]."""
        shape = (*leading, *self._shape)
        if np.shape(value) != shape:
            raise self.refusal(f"has shape {np.shape(value)}, but the observation_space says {shape}")
        try:
            chosen = to_numpy(value).reshape(*leading, -1).astype(np.int64) - self._starts
        except (TypeError, ValueError):
            raise self.refusal(f"is {value!r}, no whole number") from None
        if ((chosen < 0) | (chosen >= self._sizes)).any():
            last = (self._starts + self._sizes - 1).tolist()
            raise self.refusal(f"is {value}, outside of {self._starts.tolist()} to {last}")
        return chosen


class TextLeaf(Leaf):
    """A text as a bag of hashed words: each word of letters and digits, whatever its case, adds 1 or -1 to one of the
    `TEXT_NUMBERS` numbers (CRC-32 of its UTF-8 bytes: the low bits say to which, the highest the sign). The order of
    words is lost, and different words may share a number."""

    def __init__(self, *, name: str, path: Path) -> None:
        super().__init__(name=name, path=path, spec=ObsSpec(shape=(TEXT_NUMBERS,), dtype=_FLOAT))
        self._last = ""
        self._numbers = np.zeros(TEXT_NUMBERS, np.float32)

    def write(self, value: Any, dest: NDArray[Any], first: bool) -> None:
        if value != self._last:
            if not isinstance(value, str):
                raise self.refusal(f"is a {type(value).__name__}, no text")
            self._numbers, self._last = hashed_words(value), value
        dest[...] = self._numbers


def hashed_words(text: str) -> NDArray[np.float32]:
    """[TEXT_NUMBERS], see `TextLeaf`."""
    numbers = np.zeros(TEXT_NUMBERS, np.float32)
    for word in re.findall(r"\w+", text.lower()):
        digest = zlib.crc32(word.encode())
        numbers[digest % TEXT_NUMBERS] += -1.0 if digest >> 31 else 1.0
    return numbers


class MaskLeaf(Leaf):
    """Which choices are allowed: an array, or arrays nested as the actions are."""

    def __init__(self, *, name: str, path: Path, source: Space) -> None:
        self._parts = _mask_parts(source, (), name)
        size = sum(count for _, count in self._parts)
        super().__init__(name=name, path=path, spec=ObsSpec(shape=(size,), dtype=_MASK))

    def write(self, value: Any, dest: NDArray[Any], first: bool) -> None:
        start = 0
        for path, size in self._parts:
            part = np.ravel(at_path(value, path, self))
            if part.size != size:
                raise self.refusal(f"has {part.size} entries where the observation_space has {size}")
            dest[start : start + size] = part != 0
            start += size

    def write_batch(self, values: Any, dest: NDArray[Any]) -> None:
        start = 0
        for path, size in self._parts:
            part = to_numpy(at_path(values, path, self))
            if part.size != size * len(dest):
                raise self.refusal(f"has shape {part.shape} where the observation_space has {size} entries")
            dest[:, start : start + size] = part.reshape(len(dest), size) != 0
            start += size


def _mask_parts(space: Space, path: Path, name: str) -> list[tuple[Path, int]]:
    children = children_of(space)
    if children is not None:
        return [part for key, sub in children.items() for part in _mask_parts(sub, (*path, key), name)]
    if not space.shape:
        raise EnvError(f"observation {name!r} must be a vector with one entry per choice, got {space}")
    return [(path, int(np.prod(space.shape)))]


def children_of(space: Space) -> dict[Any, Space] | None:
    """The spaces inside of a dictionary or tuple; None for others."""
    if isinstance(space, spaces.Dict):
        return dict(space.spaces)
    return dict(enumerate(space.spaces)) if isinstance(space, spaces.Tuple) else None


def at_path(obs: Any, path: Path, leaf: Leaf) -> Any:
    """What lies there in a nested observation."""
    try:
        for key in path:
            obs = obs[key]
    except (KeyError, IndexError, TypeError):
        raise leaf.refusal(f"is missing: there is no {'/'.join(map(str, path))}") from None
    return obs


def make_leaf(space: Space, name: str, path: Path, pixel_format: PixelFormat) -> Leaf:
    """The form of a space that has no spaces inside. Raises EnvError where there is none."""
    if isinstance(space, spaces.Box):
        return _box_leaf(space, name, path, pixel_format)
    if isinstance(space, spaces.MultiBinary):
        return ArrayLeaf(name=name, path=path, spec=ObsSpec(shape=tuple(space.shape), dtype=_FLOAT), source=space)
    if isinstance(space, spaces.Discrete):
        return OneHotLeaf(name=name, path=path, sizes=np.array([space.n]), starts=np.array([space.start]), shape=())
    if isinstance(space, spaces.MultiDiscrete):
        sizes, starts = np.ravel(space.nvec), np.ravel(space.start)
        return OneHotLeaf(name=name, path=path, sizes=sizes, starts=starts, shape=space.shape)
    if isinstance(space, spaces.Text) or _samples_text(space):
        return TextLeaf(name=name, path=path)
    raise EnvError(
        f"observation {name!r} is a {type(space).__name__} space, which has no array form; wrap the environment so "
        "that it observes Box, Discrete, MultiDiscrete, MultiBinary, Text or dictionaries and tuples of them"
    )


def _samples_text(space: Space) -> bool:
    """Spaces of sentences that are classes of their own."""
    try:
        return isinstance(space.sample(), str)
    except Exception:
        return False


def _box_leaf(space: spaces.Box, name: str, path: Path, pixel_format: PixelFormat) -> ArrayLeaf:
    shape = tuple(space.shape)
    if space.dtype != np.uint8:
        return ArrayLeaf(name=name, path=path, spec=ObsSpec(shape=shape or (1,), dtype=_FLOAT), source=space)
    hwc = len(shape) == 3 and is_hwc(shape, pixel_format)
    if len(shape) == 2:
        stored: tuple[int, ...] = (1, *shape)
    else:
        stored = (shape[2], shape[0], shape[1]) if hwc else shape or (1,)
    return ArrayLeaf(name=name, path=path, spec=ObsSpec(shape=stored, dtype=_BYTE), source=space, hwc=hwc)


def is_hwc(shape: tuple[int, ...], pixel_format: PixelFormat) -> bool:
    """Whether the last of three axes is that of the channels: one axis is far shorter than both others (a stack of
    images has 6, 9 or 12 channels), or has 1, 3 or 4 entries. --pixel_format decides where neither tells."""
    first, middle, last = shape
    first_small = _SMALL_AXIS * first <= min(middle, last)
    last_small = _SMALL_AXIS * last <= min(first, middle)
    if first_small != last_small:
        return last_small
    first_fits, last_fits = first in _IMAGE_CHANNELS, last in _IMAGE_CHANNELS
    return last_fits if first_fits != last_fits else pixel_format == "HWC"
