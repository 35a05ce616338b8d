"""Translates gymnasium spaces: observations into arrays, action rows into what an environment takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from sf_algo.envs.leaves import (
    ArrayLeaf,
    Leaf,
    MaskLeaf,
    Path,
    PixelFormat,
    Space,
    StackedLeaf,
    at_path,
    children_of,
    make_leaf,
)
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

Decoder: TypeAlias = Callable[[NDArray[np.float32]], Any]
"""Action row [width] -> what the environment's step takes."""


class ObsWriter:
    """Writes one agent's observation of a gymnasium space into an `ObsRow`.

    Images (uint8, two or three dimensions) become uint8 CHW, other numbers float32 (a vector of bytes stays
    uint8), a choice among n a one-hot vector, a text a bag of hashed words (`TextLeaf`). Nested dictionaries and tuples
    become names joined by "/"; what is called `action_mask` is the action mask wherever it lies.
    """

    def __init__(self, space: Space, *, pixel_format: PixelFormat = "CHW", framestack: int = 1) -> None:
        """Raises EnvError: a space without an array form, or two with one name."""
        leaves: dict[str, Leaf] = {}
        for leaf in _leaves(space, (), pixel_format):
            if leaf.name in leaves:
                raise EnvError(f"two observations would both be called {leaf.name!r}; rename one of them")
            leaves[leaf.name] = leaf
        if framestack > 1:
            images = {name for name, leaf in leaves.items() if leaf.spec.is_image}
            if not images:
                raise EnvError("--env_framestack stacks images; this environment observes none (leave it at 1)")
            leaves.update({name: StackedLeaf(leaves[name], framestack) for name in images})
        self.specs: dict[str, ObsSpec] = {name: leaf.spec for name, leaf in leaves.items()}
        self.leaves: Sequence[Leaf] = list(leaves.values())
        only = leaves.get(PLAIN_OBS)
        self._plain = only if only is not None and len(leaves) == 1 and not only.path else None

    def write(self, obs: Any, row: ObsRow, *, first: bool = False) -> None:
        """Write `obs`; `first` marks the first of an episode. Raises EnvContractError where it does not fit."""
        if self._plain is not None:
            self._plain.write(obs, row[PLAIN_OBS], first)
            return
        for leaf in self.leaves:
            leaf.write(at_path(obs, leaf.path, leaf), row[leaf.name], first)

    def step_writer(self) -> Callable[[Any, ObsRow], None]:
        """A function that writes an observation which is not the first of its episode; the fastest for the space."""
        plain = self._plain
        return _copier(plain) if isinstance(plain, ArrayLeaf) and not plain.hwc else self.write


def _copier(leaf: ArrayLeaf) -> Callable[[Any, ObsRow], None]:
    shape, dtype, fitted = leaf.shape, leaf.dtype, leaf.fitted

    def write(obs: Any, row: ObsRow) -> None:
        if type(obs) is not np.ndarray or obs.shape != shape or obs.dtype is not dtype:
            obs = fitted(obs)
        row[PLAIN_OBS][...] = obs

    return write


def _leaves(space: Space, path: Path, pixel_format: PixelFormat) -> list[Leaf]:
    if path and path[-1] == ACTION_MASK:
        return [MaskLeaf(name=ACTION_MASK, path=path, source=space)]
    children = children_of(space)
    if children is not None:
        return [leaf for key, sub in children.items() for leaf in _leaves(sub, (*path, key), pixel_format)]
    return [make_leaf(space, "/".join(str(key) for key in path) or PLAIN_OBS, path, pixel_format)]


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
    """Whatever the row holds, the action lies in the Box: bounds are applied in the Box's own type, which may be finer
    than the row's (0.1 is 0.10000000149 in 32 bits) or hold whole numbers that no float does."""
    dtype, shape = np.dtype(space.dtype), tuple(space.shape)
    own_low, own_high = space.low.ravel(), space.high.ravel()
    with np.errstate(over="ignore"):  # 1e300 is no bound for 32 bits
        box = Box(tuple(own_low.astype(np.float32).tolist()), tuple(own_high.astype(np.float32).tolist()))
    if np.issubdtype(dtype, np.integer):
        return [box], _whole_decoder(own_low, own_high, dtype, shape)
    wide = np.promote_types(dtype, np.float32)
    limits: Any = np.finfo(dtype)  # type: ignore[type-var]
    low, high = np.maximum(own_low, limits.min).astype(wide), np.minimum(own_high, limits.max).astype(wide)
    if dtype == np.float32 and len(shape) == 1:
        return [box], lambda row: np.fmin(np.fmax(row, low), high)

    def decode(row: NDArray[np.float32]) -> Any:
        return np.fmin(np.fmax(row.astype(wide), low), high).astype(dtype).reshape(shape)

    return [box], decode


def _whole_decoder(low: NDArray[Any], high: NDArray[Any], dtype: np.dtype[Any], shape: tuple[int, ...]) -> Decoder:
    least, most = low.astype(np.float64), high.astype(np.float64)
    inner_least, inner_most = np.nextafter(least, most), np.nextafter(most, least)

    def decode(row: NDArray[np.float32]) -> Any:
        wanted = row.astype(np.float64)
        inside = np.rint(np.fmin(np.fmax(wanted, inner_least), inner_most)).astype(dtype)
        return np.where(wanted >= most, high, np.where(wanted <= least, low, inside)).astype(dtype).reshape(shape)

    return decode


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
