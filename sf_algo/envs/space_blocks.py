"""Translates gymnasium spaces for many agents at once: observations into blocks, blocks of actions into batches.

Shape letters: A agents, `width` numbers of one action row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array
from numpy.typing import NDArray

from sf_algo.envs.leaves import PixelFormat, at_path
from sf_algo.envs.spaces import ObsWriter, action_decoder
from sf_algo.envs.spec import ActionSpec, ObsBlock, ObsSpec

Space: TypeAlias = "spaces.Space[Any]"
BatchDecoder: TypeAlias = Callable[[NDArray[np.float32]], Any]
"""Action rows [A, width] -> a batch of gymnasium's batched action space."""


class BlockWriter:
    """Writes a batch of observations of a gymnasium space, as vector environments give them, into an `ObsBlock`.

    Names, shapes and types are those of `ObsWriter`.
    """

    def __init__(self, space: Space, *, pixel_format: PixelFormat = "CHW") -> None:
        writer = ObsWriter(space, pixel_format=pixel_format)
        self.specs: dict[str, ObsSpec] = writer.specs
        self._leaves = writer.leaves

    def write(self, batch: Any, block: ObsBlock) -> None:
        """`batch`: arrays [A, ...], nested like the space. Raises EnvContractError where one does not fit the space."""
        for leaf in self._leaves:
            leaf.write_batch(at_path(batch, leaf.path, leaf), block[leaf.name])

    def write_agents(self, batch: Any, block: ObsBlock, agents: NDArray[np.int64]) -> None:
        """Write only the observations of these agents; those of the others in `batch` may be None."""
        for leaf in self._leaves:
            values = at_path(batch, leaf.path, leaf)
            for agent in agents.tolist():
                leaf.write(_of_agent(values, agent), block[leaf.name][agent, ...], True)


def _of_agent(values: Any, agent: int) -> Any:
    """One agent's part of a batch, whose arrays may be nested."""
    if isinstance(values, Mapping):
        return {key: _of_agent(part, agent) for key, part in values.items()}
    return tuple(_of_agent(part, agent) for part in values) if isinstance(values, tuple) else values[agent]


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
