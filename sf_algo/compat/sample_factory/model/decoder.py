"""Base of decoders."""

from __future__ import annotations

from sf_algo.compat.sample_factory.model.model_utils import ModelModule


class Decoder(ModelModule):
    """`forward(core_output [N, in])` to [N, get_out_size()]."""
