"""What turns instructions in words into features: an embedding and an LSTM, as in Espeholt et al. 2018 for DMLab-30.

Shape letters: N rows, W words of an instruction, U different instructions among the rows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sf_algo.envs.dmlab.instructions import VOCABULARY
from sf_algo.model.recurrent import RecurrentCore

EMBEDDING_SIZE = 20
HIDDEN_SIZE = 64


class WordsEncoder(nn.Module):
    """The LSTM's output at the last word of each instruction."""

    out_size = HIDDEN_SIZE

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, EMBEDDING_SIZE, padding_idx=0)
        self.core = RecurrentCore("lstm", EMBEDDING_SIZE, HIDDEN_SIZE, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Numbers of words [N, W] (zeros behind the last) of any dtype -> [N, HIDDEN_SIZE]."""
        tokens = tokens.long()
        if tokens.device.type != "cpu":
            return self._read(tokens)  # how many differ only the host could tell, which would wait
        # Few of the rows differ: an instruction lasts for a whole episode, and most levels have none.
        different, which = torch.unique(tokens, dim=0, return_inverse=True)
        return self._read(different)[which]

    def _read(self, tokens: Tensor) -> Tensor:
        """[U, W] -> [U, HIDDEN_SIZE]."""
        U, W = tokens.shape
        words = self.embedding(tokens).transpose(0, 1)
        if tokens.device.type != "cpu":
            outputs, _ = self.core.rnn(words)
        else:
            never = torch.zeros(W, U, dtype=torch.bool)
            outputs, _ = self.core.stepped_sequence(words, words.new_zeros(U, self.core.state_size), never)
        last = (tokens != 0).sum(1).clamp(min=1) - 1
        return outputs[last, torch.arange(U, device=tokens.device)]  # type: ignore[no-any-return]
