"""How precisely networks compute: one choice for acting and learning, or their probabilities would differ where nothing
has changed."""

from __future__ import annotations

from typing import Literal

import torch

from sf_algo.model.base import ActorCritic

Precision = Literal["float32", "tf32", "bf16"]


def use_precision(model: ActorCritic, precision: Precision, device: torch.device) -> None:
    """The precision of `model`, which computes on `device`. Products of float32 on GPUs are those of the whole process:
    left alone, torch rounds their inputs to TF32's 10 bits in cuDNN (training's recurrent layers) and not in cuBLAS
    (acting's)."""
    model.use_bf16(precision == "bf16")
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
