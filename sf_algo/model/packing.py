"""Cuts sequences at resets and packs the pieces, so that one fused kernel runs them all.

Shape letters: T steps, B sequences, P pieces (P >= B), F features, S numbers of recurrent state.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from sf_algo.model.uploading import uploaded


@dataclass(frozen=True, kw_only=True)
class Packing:
    """How [T, B] rows become a `PackedSequence` of pieces, longest first. Index tensors are on the data's
    device; `batch_sizes` stays on the CPU, where torch wants it."""

    order: Tensor
    """[T * B] int64: place in the packed data -> t * B + b."""
    inverse: Tensor
    """[T * B] int64: t * B + b -> place in the packed data."""
    batch_sizes: Tensor
    """[longest] int64: pieces that are at least that long."""
    owner: Tensor
    """[P] int64: the sequence that a piece was cut from."""
    fresh: Tensor
    """[P, 1] bool: the piece begins behind a reset, so with a zero state."""
    last: Tensor
    """[B] int64: the piece that a sequence ends with."""
    ended: Tensor
    """[B, 1] bool: the state behind the last row is zeroed."""

    def pack(self, x_TBF: Tensor) -> PackedSequence:
        return PackedSequence(x_TBF.flatten(0, 1).index_select(0, self.order), self.batch_sizes)

    def unpack(self, packed: PackedSequence, T: int) -> Tensor:
        """[T, B, F] from packed outputs."""
        rows = packed.data.index_select(0, self.inverse)
        return rows.view(T, -1, rows.shape[-1])

    def initial(self, states: Tensor) -> Tensor:
        """States of the pieces [L, P, H] from those of the sequences [L, B, H]."""
        return states.index_select(1, self.owner).masked_fill(self.fresh, 0.0)

    def final(self, states: Tensor) -> Tensor:
        """States behind the last row [L, B, H] from those of the pieces [L, P, H]."""
        return states.index_select(1, self.last).masked_fill(self.ended, 0.0)


def make_packing(reset_after_TB: Tensor, device: torch.device) -> Packing:
    """The packing for resets [T, B] bool in host memory. All it needs on the device goes there in one copy, for which
    nobody waits."""
    resets = reset_after_TB.numpy()
    T, B = resets.shape
    starts = np.ones((B, T), bool)
    starts[:, 1:] = resets[:-1].T
    first = np.flatnonzero(starts)
    lengths = np.diff(first, append=T * B)
    by_length = np.argsort(-lengths, kind="stable")
    rank = np.empty_like(by_length)
    rank[by_length] = np.arange(len(by_length))
    begins, lengths = first[by_length], lengths[by_length]
    # Packed order: first the first row of every piece, longest piece first, then every second row, ...
    within = np.arange(lengths[0])[:, None]
    there = within < lengths
    places = (begins + within)[there]
    order = places % T * B + places // T
    inverse = np.empty_like(order)
    inverse[order] = np.arange(T * B)
    last = rank[np.cumsum(starts.sum(1)) - 1]
    parts = [order, inverse, begins // T, begins % T != 0, last, resets[-1]]
    sizes = [len(part) for part in parts]
    on_device = torch.split(uploaded(torch.from_numpy(np.concatenate(parts)), device), sizes)
    return Packing(
        order=on_device[0],
        inverse=on_device[1],
        batch_sizes=torch.from_numpy(there.sum(1)),
        owner=on_device[2],
        fresh=on_device[3].bool().unsqueeze(1),
        last=on_device[4],
        ended=on_device[5].bool().unsqueeze(1),
    )
