"""Agents with different spaces, padded to common ones, so that one layout of trajectories fits all.

Observations are padded with zeros behind their own entries. A choice among fewer actions than others have gets an
action mask that forbids the rest; numbers that an agent does not have are ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf_algo.envs.spaces import Decoder, ObsWriter
from sf_algo.envs.spec import ACTION_MASK, ActionComponent, ActionSpec, Box, Discrete, EnvSpec, ObsRow, ObsSpec
from sf_algo.errors import EnvError


class PaddedAgent:
    """One agent: what it writes of the common observation, and what it reads of the common action."""

    def __init__(self, writer: ObsWriter, actions: ActionSpec, decode: Decoder, common: EnvSpec) -> None:
        self._writer = writer
        self._decode = decode
        self._common = common
        self._plain = writer.specs == dict(common.obs) and actions == common.actions
        self._columns = _own_columns(actions, common.actions)
        self._choices = _own_choices(actions, common.actions)
        self._masked = ACTION_MASK in writer.specs
        self._own = {name: spec.zeros() for name, spec in writer.specs.items()}

    def write(self, obs: Any, row: ObsRow, *, first: bool) -> None:
        """Write the agent's observation into its row of the common layout."""
        if self._plain:
            self._writer.write(obs, row, first=first)
            return
        self._writer.write(obs, self._own, first=first)
        for name, spec in self._common.obs.items():
            own = self._own.get(name)
            if name == ACTION_MASK:
                row[name][...] = 0
                row[name][self._choices] = 1 if own is None else own
            elif own is None:
                row[name][...] = 0
            elif own.shape == spec.shape:
                row[name][...] = own
            else:
                row[name][...] = 0
                row[name][tuple(slice(size) for size in own.shape)] = own

    def blank(self, row: ObsRow) -> None:
        """What is seen of an agent that is not there; every action that it has is allowed."""
        for array in row.values():
            array[...] = 0
        self.allow_all(row)

    def allow_all(self, row: ObsRow) -> None:
        """Every action that the agent has is allowed: whatever it chooses, nothing comes of it."""
        if ACTION_MASK in row:
            row[ACTION_MASK][self._choices] = 1

    def decode(self, action: NDArray[np.float32]) -> Any:
        """The agent's own action of a row of the common ones."""
        return self._decode(action if self._plain else action[self._columns])


def padded(
    parts: Sequence[tuple[ObsWriter, ActionSpec, Decoder]], *, frameskip: int, roles: tuple[int, ...] = ()
) -> tuple[EnvSpec, list[PaddedAgent]]:
    """The common spec of agents, each given by its writer, its actions and their decoder.

    Raises EnvError where observations of one name, or actions, are of different kinds.
    """
    actions = _common_actions([spec for _, spec, _ in parts])
    obs: dict[str, ObsSpec] = {}
    for writer, _, _ in parts:
        for name, own in writer.specs.items():
            if name != ACTION_MASK:
                obs[name] = _common_obs(name, obs.get(name, own), own)
    differ = any(own.num_choices != actions.num_choices for _, own, _ in parts)
    if differ or any(ACTION_MASK in writer.specs for writer, _, _ in parts):
        obs[ACTION_MASK] = ObsSpec(shape=(actions.num_choices,), dtype=np.dtype(np.int8))
    spec = EnvSpec(obs=obs, actions=actions, num_agents=len(parts), frameskip=frameskip, roles=roles)
    return spec, [PaddedAgent(*part, spec) for part in parts]


def _common_obs(name: str, one: ObsSpec, other: ObsSpec) -> ObsSpec:
    if one.dtype != other.dtype or len(one.shape) != len(other.shape):
        raise EnvError(
            f"observation {name!r} is {one.dtype} {one.shape} for one agent and {other.dtype} {other.shape} for "
            "another; agents of one environment need observations of one type and number of dimensions"
        )
    return ObsSpec(shape=tuple(max(sizes) for sizes in zip(one.shape, other.shape, strict=True)), dtype=one.dtype)


def _common_actions(specs: Sequence[ActionSpec]) -> ActionSpec:
    kinds = {tuple(type(component) for component in spec.components) for spec in specs}
    if len(kinds) > 1:
        shown = " and ".join(sorted({str(spec) for spec in specs}))
        raise EnvError(f"agents act in {shown}; agents of one environment need actions of the same kinds")
    return ActionSpec(tuple(_widest(column) for column in zip(*(spec.components for spec in specs), strict=True)))


def _widest(components: Sequence[ActionComponent]) -> ActionComponent:
    discrete = [component.n for component in components if isinstance(component, Discrete)]
    if discrete:
        return Discrete(max(discrete))
    boxes = [component for component in components if isinstance(component, Box)]
    width = max(box.width for box in boxes)
    low, high = [0.0] * width, [0.0] * width
    for index in range(width):
        having = [box for box in boxes if box.width > index]
        low[index], high[index] = min(b.low[index] for b in having), max(b.high[index] for b in having)
    return Box(tuple(low), tuple(high))


def _own_columns(own: ActionSpec, common: ActionSpec) -> NDArray[np.int64]:
    """Which numbers of a common action row are the agent's."""
    starts = [where.start for where in common.slices]
    picked = [np.arange(start, start + c.width) for start, c in zip(starts, own.components, strict=True)]
    return np.concatenate(picked).astype(np.int64)


def _own_choices(own: ActionSpec, common: ActionSpec) -> NDArray[np.int64]:
    """Which entries of a common action mask are the agent's."""
    picked, start = [np.zeros(0, np.int64)], 0
    for mine, wide in zip(own.components, common.components, strict=True):
        if isinstance(mine, Discrete) and isinstance(wide, Discrete):
            picked.append(np.arange(start, start + mine.n))
            start += wide.n
    return np.concatenate(picked).astype(np.int64)
