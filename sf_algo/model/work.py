"""How many floating-point operations a network's products take: what --profile divides by seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sf_algo.envs.spec import EnvSpec
from sf_algo.model.base import ActorCritic
from sf_algo.model.layers import Conv2d


@dataclass(frozen=True, kw_only=True)
class Work:
    """Operations for one agent and step, a multiplication and an addition counted as two."""

    acting: float
    """One forward pass."""
    learning: float
    """Forward, and twice as much backward: gradients of weights and of inputs. Pixels need none of the latter."""


def work_of(model: ActorCritic, spec: EnvSpec) -> Work:
    """Of linear, convolutional and recurrent layers; what a user's own modules do beside them is not seen."""
    convolved: dict[nn.Module, int] = {}
    first: set[nn.Module] = set()

    def see(layer: nn.Conv2d, inputs: Any, output: Tensor) -> None:
        convolved[layer] = 2 * layer.weight.numel() * output.shape[-2] * output.shape[-1]

    handles = [m.register_forward_hook(see) for m in model.modules() if isinstance(m, nn.Conv2d)]
    try:
        with torch.inference_mode():
            obs = {n: torch.from_numpy(np.zeros((1, *s.shape), s.dtype)).to(model.device) for n, s in spec.obs.items()}
            model.act(obs, torch.zeros(1, model.rnn_state_size, device=model.device))
    finally:
        for handle in handles:
            handle.remove()
    for layer in model.modules():
        # The one that takes pixels is not called as a module.
        if isinstance(layer, Conv2d) and layer not in convolved and layer.pixels is not None:
            sides = [(p - k) // s + 1 for p, k, s in zip(layer.pixels, layer.kernel_size, layer.stride, strict=True)]
            if layer.padding != (0, 0):
                sides = [-(-p // s) for p, s in zip(layer.pixels, layer.stride, strict=True)]
            convolved[layer] = 2 * layer.weight.numel() * sides[0] * sides[1]
            first.add(layer)
    products = sum(
        2 * parameter.numel()
        for layer in model.modules()
        if isinstance(layer, (nn.Linear, nn.RNNBase))
        for parameter in layer.parameters(recurse=False)
        if parameter.dim() == 2
    )
    forward = float(products + sum(convolved.values()))
    return Work(acting=forward, learning=3.0 * forward - sum(convolved[layer] for layer in first))
