"""Small tensors on their way to the device."""

from __future__ import annotations

import torch
from torch import Tensor


def uploaded(x: Tensor, device: torch.device) -> Tensor:
    """`x` on `device`; itself where it is there already. Nobody waits for that: what is in host memory is copied to
    memory that is locked for GPUs first, because from other memory the driver may copy behind all that is under way."""
    if device.type == "cpu" or x.device.type != "cpu":
        return x.to(device, non_blocking=True)
    return x.pin_memory().to(device, non_blocking=True)
