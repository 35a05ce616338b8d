"""Several learners of one policy: each computes the gradient of its share of a minibatch, and all make the same step.

Every learner has the same weights, the same batch and the same shuffled order of its trajectories. What a loss divides
by is counted over all shares, so the sum of their gradients is the gradient of the whole minibatch.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Protocol, cast

import torch
from torch import Tensor


class Peers(Protocol):
    """The learners of one policy, seen by one of them. Whatever one asks of the others, all have to ask."""

    rank: int
    """Which of them this is; the first one, 0, publishes and saves."""
    count: int

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replaces every tensor by the sum over all learners, to the bit the same for each."""

    def copy_first_(self, tensors: Sequence[Tensor]) -> None:
        """Replaces every tensor by that of the first learner."""


class Alone:
    """One learner without others."""

    rank = 0
    count = 1

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        pass

    def copy_first_(self, tensors: Sequence[Tensor]) -> None:
        pass


ALONE = Alone()


class ConnectedPeers:
    """Learners in processes that are connected by torch: through NCCL on GPUs, through gloo on CPUs."""

    def __init__(self, rank: int, count: int, rendezvous: str, device: torch.device, *, timeout_s: float) -> None:
        """Waits until all have come. `rendezvous`: path of an empty file that all can open, used for nothing else.

        Raises:
            RuntimeError: not all have come in time.
        """
        import torch.distributed  # only where there are several learners

        self.rank = rank
        self.count = count
        dist = self._dist = cast(Any, torch.distributed)
        limit = timedelta(seconds=timeout_s)
        store = dist.FileStore(rendezvous, count)
        store.set_timeout(limit)
        if device.type == "cuda":
            torch.cuda.set_device(device)
            dist.init_process_group("nccl", store=store, rank=rank, world_size=count, timeout=limit, device_id=device)
        else:
            dist.init_process_group("gloo", store=store, rank=rank, world_size=count, timeout=limit)

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """One message for all tensors."""
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        self._dist.all_reduce(flat)
        _spread(flat, tensors)

    def copy_first_(self, tensors: Sequence[Tensor]) -> None:
        """One message for the tensors of each precision."""
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            same = [tensor for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.reshape(-1) for tensor in same])
            self._dist.broadcast(flat, 0)
            _spread(flat, same)

    def leave(self) -> None:
        """Before the process ends, so that torch does not complain of a connection left open."""
        self._dist.destroy_process_group()


def _spread(flat: Tensor, tensors: Sequence[Tensor]) -> None:
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view(tensor.shape))


def total(x: Tensor, peers: Peers) -> Tensor:
    """The sum over all learners of a tensor without gradient."""
    if peers.count == 1:
        return x
    x = x.detach().clone()
    peers.sum_([x])
    return x


def share(which: Tensor | None, peers: Peers, *, total: int) -> Tensor | None:
    """The trajectories of a minibatch, `which` [b] (None: all `total`), that this learner computes. May be empty."""
    if peers.count == 1:
        return which
    everything = torch.arange(total) if which is None else which
    return torch.tensor_split(everything, peers.count)[peers.rank]
