"""Adam (Kingma and Ba 2015, algorithm 1) with gradient clipping. A gradient that is not finite changes nothing.

`torch.optim` is left alone on purpose: constructing any of its optimizers imports torch's compiler, which
takes a second and 100 MB (torch 2.13). The arithmetic is torch's own fused step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from sf_algo.config import LearnerConfig


class GuardedAdam:
    """Adam over all trainable parameters of a model.

    A step whose gradient is not finite is skipped on the device, so no step waits for a GPU.
    """

    def __init__(self, model: nn.Module, cfg: LearnerConfig) -> None:
        """Moments get the memory order of the parameters, which must not change afterwards."""
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._means = [torch.zeros_like(p, requires_grad=False) for p in self._parameters]
        self._squares = [torch.zeros_like(p, requires_grad=False) for p in self._parameters]
        self._steps = torch.zeros((), device=self._parameters[0].device)
        self.set_config(cfg)

    def set_config(self, cfg: LearnerConfig) -> None:
        """New hyperparameters; moments are kept."""
        self._betas = (cfg.adam_beta1, cfg.adam_beta2)
        self._eps = cfg.adam_eps
        self._max_grad_norm = cfg.max_grad_norm if cfg.max_grad_norm > 0 else float("inf")

    def backward_and_step(
        self, loss: Tensor, lr: float, gather: Callable[[list[Tensor]], None] = lambda gradients: None
    ) -> Tensor:
        """One step that lowers `loss`, a scalar tensor, with learning rate `lr`. `gather` may change the gradients
        before they are used.

        Returns the L2 norm of the gradient before clipping, a scalar tensor on the device. If the norm is not finite,
        the step was skipped.
        """
        for parameter in self._parameters:
            parameter.grad = None
        torch.autograd.backward(loss)
        gather([p.grad for p in self._parameters if p.grad is not None])
        norm = nn.utils.clip_grad_norm_(self._parameters, self._max_grad_norm, foreach=True)
        self._step(lr, skip=(~torch.isfinite(norm)).float())
        return norm

    @torch.no_grad()
    def _step(self, lr: float, skip: Tensor) -> None:
        """`skip` is a scalar on the device: 1 leaves everything as it is."""
        moving = [
            _row_major(p, p.grad, mean, square)
            for p, mean, square in zip(self._parameters, self._means, self._squares, strict=True)
            if p.grad is not None
        ]
        parameters, gradients, means, squares = (list(column) for column in zip(*moving, strict=True))
        self._steps += 1.0 - skip
        torch._fused_adam_(
            parameters,
            gradients,
            means,
            squares,
            [],
            [self._steps] * len(parameters),
            lr=lr,
            beta1=self._betas[0],
            beta2=self._betas[1],
            weight_decay=0.0,
            eps=self._eps,
            amsgrad=False,
            maximize=False,
            found_inf=skip,
        )

    def state_dict(self) -> dict[str, Any]:
        """Step count and moments, in the order of the model's parameters; the live tensors."""
        return {"steps": self._steps, "means": list(self._means), "squares": list(self._squares)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copies the state; hyperparameters stay those of the flags."""
        self._steps.copy_(state["steps"])
        for own, saved in ((self._means, state["means"]), (self._squares, state["squares"])):
            for target, source in zip(own, saved, strict=True):
                target.copy_(source)


def _row_major(parameter: Tensor, gradient: Tensor, mean: Tensor, square: Tensor) -> tuple[Tensor, ...]:
    """Views of the four tensors that are contiguous where that is possible.

    The fused step walks through memory, all four tensors at the same offset; it would copy tensors that are not
    contiguous first. Weights stored column by column are therefore transposed.
    """
    if gradient.stride() != parameter.stride():
        gradient = torch.empty_like(parameter).copy_(gradient)
    four = (parameter, gradient, mean, square)
    return four if parameter.dim() != 2 or parameter.is_contiguous() else tuple(x.t() for x in four)
