"""What the main process and a learner process share: batch buffers and published weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from sf_algo.buffers.layout import OBS_PREFIX, STEP_PREFIX, TrajectoryArrays, TrajectoryLayout
from sf_algo.buffers.shared import ArraySpec, SharedBlock, slot_views, trajectory_specs
from sf_algo.ipc.weights import SharedWeights, WeightArrays
from sf_algo.learner.batch import TrajectoryBatch
from sf_algo.model.base import ActorCritic
from sf_algo.processes.cuda import LockedBlocks


def weight_specs(model: nn.Module) -> list[ArraySpec]:
    """Shapes and types of everything that acting needs of a network."""
    return [
        ArraySpec(name=name, shape=tuple(tensor.shape), dtype=tensor.detach().cpu().numpy().dtype)
        for name, tensor in model.state_dict().items()
    ]


@torch.no_grad()
def write_weights(model: nn.Module, arrays: WeightArrays) -> None:
    """Copy the model's parameters and buffers, by name, into `arrays` of the same shapes. From a GPU they are there
    when that has finished (`processes.cuda.wait_for`)."""
    for name, tensor in model.state_dict().items():
        torch.from_numpy(arrays[name]).copy_(tensor, non_blocking=True)


def published_weights(weights: SharedWeights) -> dict[str, Any]:
    """Copies of what was published last, as part of a learner's state; nothing where nothing was."""
    if not weights.news:
        return {}
    model: dict[str, torch.Tensor] = {}

    def read(arrays: WeightArrays) -> None:
        model.update({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})

    return {"policy_version": weights.take(read), "model": model}


def batch_over(arrays: TrajectoryArrays) -> TrajectoryBatch:
    """A batch whose tensors are these arrays."""
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    obs = {n.removeprefix(OBS_PREFIX): x for n, x in tensors.items() if n.startswith(OBS_PREFIX)}
    step_fields = {n.removeprefix(STEP_PREFIX): x for n, x in tensors.items() if n.startswith(STEP_PREFIX)}
    rest = {name: x for name, x in tensors.items() if not name.startswith((OBS_PREFIX, STEP_PREFIX))}
    return TrajectoryBatch(obs=obs, step_fields=step_fields, **rest)


def batch_specs(layout: TrajectoryLayout, *, num_buffers: int, trajectories: int) -> list[ArraySpec]:
    """Arrays of `num_buffers` batches [T or T+1, trajectories, ...], to be put into shared memory."""
    return trajectory_specs(layout, slots=num_buffers, trajectories=trajectories)


class SharedBatches:
    """The batch buffers of one policy."""

    def __init__(self, block: SharedBlock) -> None:
        self.block = block
        self.batches = [batch_over(arrays) for arrays in slot_views(block.arrays)]

    @property
    def fd(self) -> int:
        return self.block.fd

    def allocator(self) -> Callable[[], TrajectoryBatch]:
        """Hands out the buffers one by one."""
        remaining = iter(self.batches)
        return lambda: next(remaining)

    def index(self, batch: TrajectoryBatch) -> int:
        """Which of the buffers this is."""
        return next(i for i, own in enumerate(self.batches) if own is batch)

    def close(self) -> None:
        self.block.close_fd()


class LearnerMemory:
    """Everything shared with the learner process of a policy, as the main process owns it."""

    def __init__(
        self, model: ActorCritic, layout: TrajectoryLayout, *, policy_id: int, num_buffers: int, trajectories: int
    ) -> None:
        """The model tells the shapes of the weights, and the device to which they are copied. Raises StorageError
        without memory."""
        specs = batch_specs(layout, num_buffers=num_buffers, trajectories=trajectories)
        self.batches = SharedBatches(SharedBlock.create(f"sf_algo_batches_{policy_id}", specs))
        self.weights = SharedWeights.create(f"sf_algo_weights_{policy_id}", weight_specs(model))
        # Batches are filled here and copied to a device by the learner alone.
        self._locked = LockedBlocks(model.device)
        self._locked.lock([self.weights.block])

    def close(self) -> None:
        self._locked.release()
        self.batches.close()
        self.weights.close()
