"""The batch that the learner trains on: time-major tensors, filled by the caller from trajectory slots.

Shape letters: T steps of a rollout, B trajectories, S numbers of recurrent state, W = `ActionSpec.width`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from sf_algo.envs.spec import EnvSpec


@dataclass(frozen=True, kw_only=True)
class TrajectoryBatch:
    """B whole trajectories. Field names and meanings are those of the trajectory slot (docs/architecture.md).

    Tensors of `allocate` live in host memory; their `.numpy()` views may be filled in place, trajectory b
    being column [:, b].
    """

    obs: Mapping[str, Tensor]
    """name -> [T+1, B, ...] in the dtype of its `ObsSpec`; row T is the bootstrap row."""
    rnn_states: Tensor
    """[T+1, B, S] float32: the state *before* each row's observation."""
    actions: Tensor
    """[T, B, W] float32."""
    log_probs: Tensor
    """[T, B] float32: of the policy that acted."""
    values: Tensor
    """[T, B] float32: of the policy that acted, in units of reward."""
    rewards: Tensor
    """[T, B] float32, raw; the learner scales and clips."""
    terminated: Tensor
    """[T, B] bool."""
    truncated: Tensor
    """[T, B] bool; the next row holds the final observation of that episode (a filler row)."""
    reset_after: Tensor
    """[T, B] bool: the recurrent state is zeroed after this row."""
    valid: Tensor
    """[T, B] bool: False for filler rows and inactive agents."""
    policy_id: Tensor
    """[T, B] int32."""
    policy_version: Tensor
    """[T, B] int32 (versions count optimizer steps)."""
    step_fields: Mapping[str, Tensor] = field(default_factory=dict)
    """name -> [T, B, ...] float32: numbers of the user's about each step."""

    @property
    def rollout(self) -> int:
        return int(self.rewards.shape[0])

    @property
    def num_trajectories(self) -> int:
        return int(self.rewards.shape[1])

    @staticmethod
    def allocate(
        env_spec: EnvSpec,
        *,
        rollout: int,
        num_trajectories: int,
        rnn_state_size: int,
        pin_memory: bool = False,
    ) -> TrajectoryBatch:
        """Zeroed host tensors for `num_trajectories`; pinned ones upload asynchronously to a GPU."""
        T, B = rollout, num_trajectories

        def zeros(*shape: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros(*shape, dtype=dtype, pin_memory=pin_memory)

        def flags() -> Tensor:
            return zeros(T, B, dtype=torch.bool)

        def reals() -> Tensor:
            return zeros(T, B, dtype=torch.float32)

        return TrajectoryBatch(
            obs={
                name: zeros(T + 1, B, *spec.shape, dtype=torch.from_numpy(spec.zeros()).dtype)
                for name, spec in env_spec.obs.items()
            },
            rnn_states=zeros(T + 1, B, rnn_state_size, dtype=torch.float32),
            actions=zeros(T, B, env_spec.actions.width, dtype=torch.float32),
            log_probs=reals(),
            values=reals(),
            rewards=reals(),
            terminated=flags(),
            truncated=flags(),
            reset_after=flags(),
            valid=flags(),
            policy_id=zeros(T, B, dtype=torch.int32),
            policy_version=zeros(T, B, dtype=torch.int32),
            step_fields={
                name: zeros(T, B, *shape, dtype=torch.float32) for name, shape in env_spec.step_fields.items()
            },
        )

    def tensors(self) -> list[Tensor]:
        """All of its tensors."""
        single = [getattr(self, f.name) for f in fields(self) if f.name not in ("obs", "step_fields")]
        return [*self.obs.values(), *self.step_fields.values(), *single]

    def to(self, device: torch.device) -> TrajectoryBatch:
        """The same batch on `device` (itself where it is there already); asynchronous from pinned memory."""
        if self.rewards.device == device:
            return self
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def first(self, columns: int) -> TrajectoryBatch:
        """The first so many trajectories, in the same memory."""
        if columns == self.num_trajectories:
            return self
        return self._each(lambda tensor: tensor[:, :columns])

    def _each(self, change: Callable[[Tensor], Tensor]) -> TrajectoryBatch:
        single = {f.name for f in fields(self)} - {"obs", "step_fields"}
        return replace(
            self,
            obs={name: change(tensor) for name, tensor in self.obs.items()},
            step_fields={name: change(tensor) for name, tensor in self.step_fields.items()},
            **{name: change(getattr(self, name)) for name in single},
        )
