"""Base of cores."""

from __future__ import annotations

from sf_algo.compat.sample_factory.model.model_utils import ModelModule


class ModelCore(ModelModule):
    """`forward(head_output [N, in], rnn_states [N, S])` to outputs [N, get_out_size()] and states [N, S]. Subclasses
    set `core_output_size`."""

    core_output_size: int = 0

    def get_out_size(self) -> int:
        return self.core_output_size
