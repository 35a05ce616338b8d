"""An encoder that works for acting and fails in training."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sf_algo.config import ModelConfig
from sf_algo.envs.spec import ObsSpec


class BrokenEncoder(nn.Module):
    out_size = 4

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(4))

    def forward(self, obs: Mapping[str, Tensor]) -> Tensor:
        if torch.is_grad_enabled():
            raise RuntimeError("this encoder cannot be trained")
        return obs["obs"] @ self.weight


def make_encoder(model_cfg: ModelConfig, obs: Mapping[str, ObsSpec]) -> BrokenEncoder:
    return BrokenEncoder()
