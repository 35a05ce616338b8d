"""Layers that projects build their networks from."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from sf_algo.errors import SfAlgoError

_ACTIVATIONS = {"elu": nn.ELU, "relu": nn.ReLU}


def nonlinearity(cfg: Any, inplace: bool = False) -> nn.Module:
    """The activation that --nonlinearity names."""
    if cfg.nonlinearity == "tanh":
        return nn.Tanh()
    if cfg.nonlinearity not in _ACTIVATIONS:
        raise SfAlgoError(f"--nonlinearity={cfg.nonlinearity}: known are elu, relu and tanh")
    kind: Any = _ACTIVATIONS[cfg.nonlinearity]
    layer: nn.Module = kind(inplace=inplace)
    return layer


def fc_layer(in_features: int, out_features: int, bias: bool = True, spec_norm: bool = False) -> nn.Module:
    """A linear layer, with spectral normalization on request."""
    layer = nn.Linear(in_features, out_features, bias)
    return torch.nn.utils.parametrizations.spectral_norm(layer) if spec_norm else layer


def create_mlp(layer_sizes: Sequence[int], input_size: int, activation: nn.Module) -> nn.Module:
    """Linear layers of those sizes, each with the activation behind it; nothing for no sizes."""
    widths = [input_size, *layer_sizes]
    layers = [part for sizes in itertools.pairwise(widths) for part in (fc_layer(*sizes), activation)]
    return nn.Sequential(*layers) if layers else nn.Identity()


def model_device(model: nn.Module) -> torch.device | None:
    """Where the weights are; None without weights."""
    first = next(model.parameters(), None)
    return None if first is None else first.device


class ModelModule(nn.Module):
    """Base of the parts of a network."""

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.cfg = cfg

    def get_out_size(self) -> int:
        """Width of the features."""
        raise NotImplementedError

    def model_to_device(self, device: torch.device) -> None:
        """Move the part to a device."""
        self.to(device)
