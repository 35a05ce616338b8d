"""Matrix products of float32 on CPUs: by MKL, as torch does them, or by oneDNN where MKL leaves half of a core idle.

On processors of other makers than Intel, MKL runs kernels for AVX2, whatever the processor can do. oneDNN, with which
torch does convolutions, asks the processor: 220 to 260 GFLOP/s instead of 110 on a core of an AMD EPYC with AVX-512
(docs/performance.md), from 16 rows on. On Intel's processors MKL is as fast or faster.

The choice depends on the machine alone, so that a training with a seed repeats itself. Either sums in another order:
results differ by rounding.

Shape letters: M, K, N sizes of a product; R rows, I inputs, O outputs.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

from sf_algo.model.processor import INTEL, maker

_WORTH_IT = 1 << 19
"""Multiplications of a product for which oneDNN's dearer call (7 us more) pays."""


@cache
def uses_onednn() -> bool:
    """Whether large products go to oneDNN on this machine."""
    return maker() not in (INTEL, "") and torch.backends.cpu.get_cpu_capability() == "AVX512" and _can()


def _can() -> bool:
    """Whether this torch has the operator, and it computes what is expected of it here."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    x, weight = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(4, 3)
    try:
        return torch.equal(_by_onednn(x, weight, None), functional.linear(x, weight))
    except (AttributeError, RuntimeError, TypeError):
        return False


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x weight^T + bias for [..., K], [N, K], [N]; without gradient. Weights may lie in memory either way."""
    return cast(Tensor, torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], ""))


def _pays(x: Tensor, outputs: int) -> bool:
    return (
        uses_onednn()
        and not torch.compiler.is_compiling()  # an exported graph is for any machine
        and x.numel() * outputs >= _WORTH_IT
        and x.dtype == torch.float32
        and x.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x weight^T + bias for [..., I], [O, I], [O], with gradient."""
    if not _pays(x, len(weight)):
        return functional.linear(x, weight, bias)
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        return cast(Tensor, cast(Any, _Linear).apply(x, weight, bias))
    return _by_onednn(x, weight, bias)


def matmul(left: Tensor, right: Tensor) -> Tensor:
    """left right for [M, K] and [K, N]; not for autograd."""
    return _by_onednn(left, right.t(), None) if _pays(left, right.shape[1]) else torch.mm(left, right)


def outer_sum(rows: Tensor, columns: Tensor, like: Tensor) -> Tensor:
    """rows^T columns for [R, O] and [R, I], in the memory order of `like` [O, I] (autograd would copy it otherwise);
    not for autograd."""
    if like.is_contiguous():
        return matmul(rows.t(), columns)
    return matmul(columns.t(), rows).t()


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _by_onednn(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        rows = grad.flatten(0, -2)
        return (
            matmul(rows, weight).view_as(x) if for_x else None,
            outer_sum(rows, x.flatten(0, -2), weight) if for_weight else None,
            rows.sum(0) if for_bias else None,
        )
