"""Cuts sequences at resets and packs the pieces, so that one fused kernel runs them all.

Shape letters: T steps, B sequences, P pieces (P >= B), F features, S numbers of recurrent state.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence


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
    """The packing for resets [T, B] bool. Works on the CPU: resets that live on a GPU cost one
    synchronization."""
    resets = reset_after_TB.cpu()
    T, B = resets.shape
    starts = torch.ones(B, T, dtype=torch.bool)
    starts[:, 1:] = resets[:-1].t()
    piece = starts.flatten().cumsum(0) - 1
    lengths = torch.bincount(piece)
    by_length = torch.argsort(lengths, descending=True, stable=True)
    rank = torch.empty_like(by_length)
    rank[by_length] = torch.arange(len(by_length))
    first = torch.nonzero(starts.flatten()).squeeze(1)
    within = torch.arange(T * B) - first[piece]
    # Packed order: first the first row of every piece, longest piece first, then every second row, ...
    places = torch.argsort(within * len(lengths) + rank[piece])
    order = places % T * B + places // T
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(T * B)
    ends = torch.arange(1, B + 1) * T - 1
    sorted_lengths = lengths[by_length]
    longest = int(sorted_lengths[0])
    return Packing(
        order=order.to(device),
        inverse=inverse.to(device),
        batch_sizes=(sorted_lengths.unsqueeze(0) > torch.arange(longest).unsqueeze(1)).sum(1),
        owner=(first[by_length] // T).to(device),
        fresh=(first[by_length] % T != 0).unsqueeze(1).to(device),
        last=rank[piece[ends]].to(device),
        ended=resets[-1].unsqueeze(1).to(device),
    )
