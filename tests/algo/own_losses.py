"""Losses as users write them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sf_algo.learner.extra_losses import Output
from sf_algo.learner.samples import Samples


def cost_loss(model: nn.Module, batch: Samples, output: Output, walk: Any) -> dict[str, Tensor]:
    """Less of what has cost."""
    cost = batch.step_fields["cost"]
    assert cost.shape == output.values.shape
    assert batch.step_fields["where"].shape == (*cost.shape, 2)
    left = (batch.actions[..., 0] == 0).float()
    assert torch.equal(cost * output.valid, left * output.valid), "the cost belongs to the action of its row"
    assert walk.cells >= 2
    return {"cost": output.mean(output.distribution.log_prob(batch.actions) * cost)}


def plain(model: nn.Module, batch: Samples, output: Output) -> Tensor:
    return output.values.mean() * 0.0 + 2.5


def wrong(model: nn.Module, batch: Samples, output: Output) -> Any:
    return output.values


def shrink(model: nn.Module, batch: Samples, output: Output) -> Tensor:
    """Of the weights alone, whatever is in the minibatch."""
    return 1e-3 * torch.stack([p.square().sum() for p in model.parameters()]).sum()


def calm(model: nn.Module, batch: Samples, output: Output) -> dict[str, Tensor]:
    """Of every sample."""
    return {"calm": 0.1 * output.mean(output.values.square())}
