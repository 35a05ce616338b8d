"""Adam (Kingma and Ba 2015) with gradient clipping that survives a gradient of NaN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from sf_algo.config import LearnerConfig


class GuardedAdam:
    """One step per call; a step whose gradient is not finite changes nothing. Never waits for a GPU."""

    def __init__(self, model: nn.Module, cfg: LearnerConfig) -> None:
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._adam = torch.optim.Adam(
            self._parameters,
            lr=cfg.learning_rate,
            betas=(cfg.adam_beta1, cfg.adam_beta2),
            eps=cfg.adam_eps,
            fused=True,
        )
        self._max_grad_norm = float("inf")
        self.set_config(cfg)

    def set_config(self, cfg: LearnerConfig) -> None:
        """New hyperparameters; moments are kept."""
        for group in self._adam.param_groups:
            group["betas"] = (cfg.adam_beta1, cfg.adam_beta2)
            group["eps"] = cfg.adam_eps
        self._max_grad_norm = cfg.max_grad_norm if cfg.max_grad_norm > 0 else float("inf")

    def backward_and_step(self, loss: Tensor, lr: float) -> Tensor:
        """Minimizes the loss by one step. Returns the norm of the gradient before clipping, a scalar tensor;
        where it is not finite the step has been skipped."""
        for parameter in self._parameters:
            parameter.grad = None
        torch.autograd.backward(loss)
        for group in self._adam.param_groups:
            group["lr"] = lr
        norm = nn.utils.clip_grad_norm_(self._parameters, self._max_grad_norm, foreach=True)
        # The fused step looks at this flag on its own device, as it does for loss scaling.
        self._adam.found_inf = (~torch.isfinite(norm)).float()  # type: ignore[attr-defined]
        self._adam.step()
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Moments and step counts by position of the parameter."""
        return self._adam.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Hyperparameters stay those of the flags."""
        current = [dict(group) for group in self._adam.param_groups]
        self._adam.load_state_dict(dict(state))
        for group, own in zip(self._adam.param_groups, current, strict=True):
            group.update({key: value for key, value in own.items() if key != "params"})
        # The fused step walks through memory: moments must lie in the order of their parameter.
        for parameter, moments in self._adam.state.items():
            for name, value in moments.items():
                if isinstance(value, Tensor) and value.dim() and value.stride() != parameter.stride():
                    moments[name] = torch.empty_like(parameter).copy_(value)
