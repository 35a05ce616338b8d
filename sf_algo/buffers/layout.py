"""Names, shapes and dtypes of what a rollout stores.

Shape letters: T rollout length, N trajectories side by side (the agents of one split, or a whole training
batch). Everything is time-major: `obs/<name>` is [T+1, N, ...], so one time step of a split is one contiguous
piece of memory that is written by the worker, read by inference and copied to a batch without any index
arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sf_algo.envs.spec import ActionSpec, ObsSpec

OBS_PREFIX = "obs/"
STEP_PREFIX = "step/"
_NUMBERS = ("log_probs", "values", "rewards")
_FLAGS = ("terminated", "truncated", "reset_after", "valid")
_POLICY = ("policy_id", "policy_version")

NO_FIELDS: Mapping[str, tuple[int, ...]] = MappingProxyType({})

TrajectoryArrays: TypeAlias = dict[str, NDArray[Any]]
"""Field name -> array [T or T+1, N, ...]: one slot, or a batch of several slots' trajectories side by
side."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """One stored quantity: `shape` is that of one agent at one time step."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    bootstrap_row: bool = False
    """True when there is a row T, the one after the last step of the rollout."""


@dataclass(frozen=True, kw_only=True)
class TrajectoryLayout:
    """The fields of a trajectory.

    | field | rows | meaning of row t |
    | --- | --- | --- |
    | obs/<name> | T+1 | what the agent sees before it acts |
    | rnn_states | T+1 | recurrent state before the step, float32 [S] (S may be 0) |
    | actions | T | float32 [width] |
    | log_probs | T | of the action under the policy that acted |
    | values | T | of the observation, by the policy that acted, denormalized |
    | rewards | T | for the action, after the environment's own scaling |
    | terminated, truncated | T | how the episode ended with this step; never both |
    | reset_after | T | the recurrent state of row t+1 is zero: row t+1 begins a new episode |
    | valid | T | False: filler row after a truncation, inactive agent, broken environment |
    | step/<name> | T | numbers of the user's about the step, float32 (`EnvSpec.step_fields`) |
    | policy_id | T | int32: which policy acted |
    | policy_version | T | int32: which version of its weights |
    """

    rollout: int
    fields: tuple[Field, ...]

    @property
    def by_name(self) -> dict[str, Field]:
        return {field.name: field for field in self.fields}

    def shape(self, field: Field, trajectories: int) -> tuple[int, ...]:
        return (self.rollout + field.bootstrap_row, trajectories, *field.shape)

    def allocate(self, trajectories: int) -> TrajectoryArrays:
        """Zeroed private arrays for `trajectories` side by side."""
        return {f.name: np.zeros(self.shape(f, trajectories), f.dtype) for f in self.fields}

    def nbytes(self, trajectories: int) -> int:
        return sum(int(np.prod(self.shape(f, trajectories))) * f.dtype.itemsize for f in self.fields)


def make_layout(
    *,
    obs: Mapping[str, ObsSpec],
    actions: ActionSpec,
    rollout: int,
    rnn_state_width: int,
    step_fields: Mapping[str, tuple[int, ...]] = NO_FIELDS,
) -> TrajectoryLayout:
    """The layout for one environment and model; `rnn_state_width` is 0 for a feed-forward policy."""
    flag, number = np.dtype(np.bool_), np.dtype(np.float32)
    fields = [
        Field(name=OBS_PREFIX + name, shape=spec.shape, dtype=spec.dtype, bootstrap_row=True)
        for name, spec in obs.items()
    ]
    fields.append(Field(name="rnn_states", shape=(rnn_state_width,), dtype=number, bootstrap_row=True))
    fields.append(Field(name="actions", shape=(actions.width,), dtype=number))
    fields += [Field(name=name, shape=(), dtype=number) for name in _NUMBERS]
    fields += [Field(name=STEP_PREFIX + name, shape=shape, dtype=number) for name, shape in step_fields.items()]
    fields += [Field(name=name, shape=(), dtype=flag) for name in _FLAGS]
    fields += [Field(name=name, shape=(), dtype=np.dtype(np.int32)) for name in _POLICY]
    return TrajectoryLayout(rollout=rollout, fields=tuple(fields))
