"""What remembers: GRU, LSTM, or nothing, between the encoder and the heads.

The state of one agent is one vector of S numbers: the layers' hidden states one after another, for an LSTM
followed by the layers' cell states. S = 0 without a core.

Shape letters: N agents acting now, T steps, B sequences, F input features, H units, L layers, S state.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from sf_algo.model.packing import make_packing
from sf_algo.model.products import linear
from sf_algo.model.rnn_functions import gru_cell, gru_sequence, lstm_cell, lstm_sequence

_Rows = TypeVar("_Rows", Tensor, PackedSequence)


class NoCore(nn.Module):
    """Feed-forward policies: passes features through."""

    state_size = 0

    def __init__(self, in_size: int) -> None:
        super().__init__()
        self.out_size = in_size

    def step(self, x: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        return x, states

    def sequence(self, x_TBF: Tensor, states_BS: Tensor, reset_after_TB: Tensor) -> tuple[Tensor, Tensor]:
        return x_TBF, states_BS


class RecurrentCore(nn.Module):
    """A GRU or LSTM whose state is cut at resets inside a sequence, exactly, with its gradient."""

    def __init__(self, kind: Literal["gru", "lstm"], in_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        self.rnn = (nn.GRU if kind == "gru" else nn.LSTM)(in_size, hidden_size, num_layers)
        self.out_size = hidden_size
        self._is_lstm = kind == "lstm"
        self._num_layers = num_layers
        self.state_size = hidden_size * num_layers * (2 if self._is_lstm else 1)

    def step(self, x: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        """One step of N agents: features [N, F], states [N, S] -> outputs [N, H], states [N, S]."""
        parts = torch.split(states, self.out_size, -1)
        L = self._num_layers
        hidden: list[Tensor] = []
        cells: list[Tensor] = []
        for layer in range(L):
            weights = self._weights(layer)
            if self._is_lstm:
                x, cell = lstm_cell(x, parts[layer], parts[L + layer], *weights)
                cells.append(cell)
            else:
                x = gru_cell(x, parts[layer], *weights)
            hidden.append(x)
        return x, x if len(hidden) + len(cells) == 1 else torch.cat([*hidden, *cells], -1)

    def sequence(self, x_TBF: Tensor, states_BS: Tensor, reset_after_TB: Tensor) -> tuple[Tensor, Tensor]:
        """T steps of B sequences from states [B, S]; reset_after [T, B] bool, on any device. Returns outputs
        [T, B, H] and the states after the last row [B, S], zeroed where it is followed by a reset."""
        if x_TBF.device.type != "cpu":
            return self.packed_sequence(x_TBF, states_BS, reset_after_TB)
        return self.stepped_sequence(x_TBF, states_BS, reset_after_TB)

    def stepped_sequence(self, x_TBF: Tensor, states_BS: Tensor, reset_after_TB: Tensor) -> tuple[Tensor, Tensor]:
        """As `sequence`, step by step with masks: fastest on a CPU."""
        T, B, _ = x_TBF.shape
        H, L = self.out_size, self._num_layers
        keep = (~reset_after_TB).to(x_TBF).unsqueeze(-1)
        parts = torch.split(states_BS, H, -1)
        hidden: list[Tensor] = []
        cells: list[Tensor] = []
        for layer in range(L):
            weight_ih, weight_hh, bias_ih, bias_hh = self._weights(layer)
            if self._is_lstm:
                gates = linear(x_TBF.flatten(0, 1), weight_ih, bias_ih + bias_hh)
                x_TBF, state, cell = lstm_sequence(
                    gates.view(T, B, -1), parts[layer], parts[L + layer], weight_hh, keep
                )
                cells.append(cell)
            else:
                bias = bias_ih + functional.pad(bias_hh[: 2 * H], (0, H))
                gates = linear(x_TBF.flatten(0, 1), weight_ih, bias)
                x_TBF, state = gru_sequence(gates.view(T, B, -1), parts[layer], weight_hh, bias_hh[2 * H :], keep)
            hidden.append(state)
        return x_TBF, torch.cat([*hidden, *cells], -1)

    def packed_sequence(self, x_TBF: Tensor, states_BS: Tensor, reset_after_TB: Tensor) -> tuple[Tensor, Tensor]:
        """As `sequence`, as packed pieces between resets: one fused kernel where the device has one."""
        T, B, _ = x_TBF.shape
        # [B, S] -> [L or 2 L, B, H]
        states = states_BS.view(B, -1, self.out_size).transpose(0, 1)
        resets = reset_after_TB.cpu()
        if not resets.any():
            outputs, states = self._run(x_TBF, states)
            return outputs, states.transpose(0, 1).reshape(B, -1)
        packing = make_packing(resets, x_TBF.device)
        packed, states = self._run(packing.pack(x_TBF), packing.initial(states))
        return packing.unpack(packed, T), packing.final(states).transpose(0, 1).reshape(B, -1)

    def _run(self, x: _Rows, states: Tensor) -> tuple[_Rows, Tensor]:
        """torch's own layers over whole or packed sequences, from and to states [L or 2 L, B, H]."""
        if not self._is_lstm:
            outputs, states = self.rnn(x, states.contiguous())
            return outputs, states
        hidden, cells = torch.split(states, self._num_layers)
        outputs, (hidden, cells) = self.rnn(x, (hidden.contiguous(), cells.contiguous()))
        return outputs, torch.cat([hidden, cells])

    def _weights(self, layer: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        weight_ih, weight_hh, bias_ih, bias_hh = self.rnn.all_weights[layer]
        return weight_ih, weight_hh, bias_ih, bias_hh


Core: TypeAlias = "NoCore | RecurrentCore"


def make_core(
    *, use_rnn: bool, rnn_type: Literal["gru", "lstm"], num_layers: int, in_size: int, hidden_size: int
) -> Core:
    """The core between an encoder with `in_size` features and the heads."""
    return RecurrentCore(rnn_type, in_size, hidden_size, num_layers) if use_rnn else NoCore(in_size)
