"""Sizes of networks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn


@torch.no_grad()
def calc_num_elements(module: nn.Module, module_input_shape: Sequence[int]) -> int:
    """How many numbers `module` makes of one input of that shape."""
    return math.prod(module(torch.zeros(1, *module_input_shape)).shape[1:])


def to_scalar(value: torch.Tensor | float) -> float:
    """The number in a tensor of one element."""
    return float(value)
