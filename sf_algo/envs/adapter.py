"""What the adapters of other people's environments have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf_algo.envs.spaces import Decoder, ObsWriter
from sf_algo.envs.spec import ObsRow


class Adapter:
    """Holds the environment; draws and closes it."""

    def __init__(self, env: Any) -> None:
        self._env = env
        self._closed = False

    def render(self) -> NDArray[np.uint8] | None:
        """The picture; of several copies, that of the first one. None where there is none."""
        frame = self._env.render()
        if isinstance(frame, tuple | list) and frame:
            frame = frame[0]
        return frame if isinstance(frame, np.ndarray) else None

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._env.close()


class AgentAdapter(Adapter):
    """One whose agents all have the same spaces, so that it can say what policies see of an agent and what they do."""

    def __init__(self, env: Any, writer: ObsWriter, decode: Decoder) -> None:
        super().__init__(env)
        self._writer = writer
        self._decode = decode

    def write_observation(self, obs: Any, row: ObsRow, *, first: bool = False) -> None:
        """What the environment returned for one agent, as policies see it; `first` marks the first of an episode."""
        self._writer.write(obs, row, first=first)

    def action_of(self, row: NDArray[np.float32]) -> Any:
        """An agent's action [width] in the form that the environment takes."""
        return self._decode(row)


def layers_of(env: Any) -> Iterator[Any]:
    """The environment, and what its wrappers are around, from the outside in. Gymnasium's wrappers do not pass on what
    is inside of them."""
    while env is not None:
        yield env
        env = getattr(env, "__dict__", {}).get("env")


def attribute_of(env: Any, name: str) -> Any:
    """That attribute of the outermost layer which has it; None where none does."""
    return next((getattr(layer, name) for layer in layers_of(env) if hasattr(layer, name)), None)
