"""Base of encoders."""

from __future__ import annotations

from sf_algo.compat.sample_factory.model.model_utils import ModelModule


class Encoder(ModelModule):
    """`forward(obs_dict)`: name -> [N, ...] to features [N, get_out_size()]."""
