"""Layers and their initialization.

Shape letters: N rows, I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from sf_algo.model.products import linear

Initialization = Literal["orthogonal", "xavier_uniform", "torch_default"]


class SpectralNorm(nn.Module):
    """Divides a weight by its largest singular value, estimated by power iteration (Miyato et al. 2018,
    algorithm 1). The weight is seen as a matrix with one row per output."""

    left: Tensor
    right: Tensor

    def __init__(self, weight: Tensor, *, warm_up: int = 15) -> None:
        super().__init__()
        matrix = weight.detach().flatten(1)
        self.register_buffer("left", functional.normalize(torch.randn(matrix.shape[0]), dim=0))
        self.register_buffer("right", functional.normalize(torch.randn(matrix.shape[1]), dim=0))
        for _ in range(warm_up):
            self.iterate(weight)

    @torch.no_grad()
    def iterate(self, weight: Tensor) -> None:
        """One power iteration; once per optimizer step is enough, since weights change slowly."""
        matrix = weight.flatten(1)
        functional.normalize(torch.mv(matrix.t(), self.left), dim=0, out=self.right)
        functional.normalize(torch.mv(matrix, self.right), dim=0, out=self.left)

    def divide(self, weight: Tensor) -> Tensor:
        """The normalized weight; gradients flow through the norm, too."""
        # The singular vectors are copied: autograd must not see the next iteration's change in place.
        left, right = self.left.clone(), self.right.clone()
        return weight / torch.dot(left, torch.mv(weight.flatten(1), right))


class Linear(nn.Linear):
    """A linear layer whose weight [O, I] lies column by column in memory on a CPU.

    Small batches multiply up to 1.5 times faster that way (measured with MKL: 512x512, 16 rows, 87 -> 56 us;
    32 rows, 130 -> 100 us), large ones and gradients equally fast.
    """

    spectral: SpectralNorm | None

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.spectral = None

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight if self.spectral is None else self.spectral.divide(self.weight)
        return linear(x, weight, self.bias)


class Conv2d(nn.Conv2d):
    """A convolution that also takes raw pixels: `scale` and `shift` are folded into its weights."""

    spectral: SpectralNorm | None

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, padding: int = 0) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, padding)
        self.spectral = None
        self.pixels: tuple[int, int] | None = None
        """Height and width of the raw pixels that it has taken."""

    def effective_weight(self) -> Tensor:
        return self.weight if self.spectral is None else self.spectral.divide(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self._convolve(x, self.effective_weight(), self.bias)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.conv2d(x, weight, bias, self.stride, self.padding)

    def forward_pixels(self, x: Tensor, mean: float, scale: float) -> Tensor:
        """Same as `forward((x - mean) / scale)` with one pass over the pixels less. uint8 or float x."""
        self.pixels = (x.shape[-2], x.shape[-1])
        weight = self.effective_weight()
        if mean != 0.0 and self.padding != (0, 0):
            # Padding is zero after normalization, so the mean cannot move into the bias.
            return self._convolve((x.to(weight.dtype) - mean) / scale, weight, self.bias)
        weight = weight / scale if scale != 1.0 else weight
        bias = self.bias
        if mean != 0.0:
            shift = weight.sum((1, 2, 3)) * mean
            bias = -shift if bias is None else bias - shift
        if x.dtype == torch.uint8 and self._can_fold(x):
            return _convolve_bytes(_fold_pixels(x), _fold_weights(weight), bias)
        return self._convolve(x.to(weight.dtype), weight, bias)

    def _can_fold(self, x: Tensor) -> bool:
        """Whether a convolution with stride 4 may become one with stride 1 over folded pixels."""
        sizes = (*self.kernel_size, *x.shape[-2:])
        return (
            x.device.type == "cpu"
            and not torch.compiler.is_compiling()  # an exported graph is for any machine
            and self.stride == (_FOLD, _FOLD)
            and self.padding == (0, 0)
            and all(size % _FOLD == 0 for size in sizes)
            and x.is_contiguous()
            and x.storage_offset() % _FOLD == 0
        )


class _ConvolveBytes(torch.autograd.Function):
    """A convolution with stride 1 that remembers bytes for its gradient, not four times as many of floats.

    That is half of what a training step for images keeps until its backward pass: 85 MB less for 1,024 images of
    doom_benchmark (3 x 72 x 128), and no slower (docs/performance.md).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return functional.conv2d(x.to(weight.dtype), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        dtype = grad.dtype  # less precise than the weights' inside autocast
        bias_sizes = [weight.shape[0]] if ctx.has_bias else None
        _, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
            grad, x.to(dtype), weight.to(dtype), bias_sizes, (1, 1), (0, 0), (1, 1), False, (0, 0), 1,
            (False, True, ctx.has_bias),
        )  # fmt: skip
        return None, grad_weight.to(weight.dtype), None if grad_bias is None else grad_bias.to(weight.dtype)


def _convolve_bytes(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _ConvolveBytes.apply(x, weight, bias)  # type: ignore[no-any-return, no-untyped-call]


_FOLD = 4


def _fold_pixels(x: Tensor) -> Tensor:
    """Bytes [N, C, H, W] -> [N, 16 C, H / 4, W / 4], channels last: squares of 4 x 4 pixels become channels.

    A convolution with 3 channels and stride 4 leaves most lanes of a vector unit idle; with 48 channels and
    stride 1 it is the same sum in another order. Four neighbours in a row are moved as one 32-bit word, in two steps:
    whole rows first, then the transposition of small matrices (in one step it takes three times as long).
    """
    N, C, H, W = x.shape
    words = x.view(torch.int32).view(N, C, H // _FOLD, _FOLD, W // _FOLD)
    rows = words.permute(0, 2, 1, 3, 4).reshape(N, H // _FOLD, C * _FOLD, W // _FOLD)
    folded = rows.transpose(2, 3).contiguous().view(torch.uint8)
    return folded.view(N, H // _FOLD, W // _FOLD, C * _FOLD * _FOLD).permute(0, 3, 1, 2)


def _fold_weights(weight: Tensor) -> Tensor:
    """Weights [O, C, K, K] -> [O, 16 C, K / 4, K / 4] for folded pixels."""
    outputs, C, K, L = weight.shape
    split = weight.reshape(outputs, C, K // _FOLD, _FOLD, L // _FOLD, _FOLD).permute(0, 1, 3, 5, 2, 4)
    folded = split.reshape(outputs, C * _FOLD * _FOLD, K // _FOLD, L // _FOLD)
    return folded.contiguous(memory_format=torch.channels_last)


def add_spectral_norm(module: nn.Module) -> None:
    """Normalizes every linear and convolutional layer inside `module` from now on."""
    for layer in module.modules():
        if isinstance(layer, (Linear, Conv2d)):
            layer.spectral = SpectralNorm(layer.weight)


def power_iterations(module: nn.Module) -> None:
    """One power iteration of every spectrally normalized layer inside `module`."""
    for layer in module.modules():
        if isinstance(layer, (Linear, Conv2d)) and layer.spectral is not None:
            layer.spectral.iterate(layer.weight)


def initialize(module: nn.Module, how: Initialization, gain: float) -> None:
    """Initializes linear, convolutional and recurrent layers inside `module`: biases zero, weights orthogonal
    (Saxe et al. 2014) or uniform (Glorot and Bengio 2010), each gate of a recurrent layer by itself."""
    if how == "torch_default":
        return
    fill = nn.init.orthogonal_ if how == "orthogonal" else nn.init.xavier_uniform_
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            _fill(fill, layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, (nn.GRU, nn.LSTM)):
            for name, parameter in layer.named_parameters():
                if name.startswith("bias"):
                    nn.init.zeros_(parameter)
                    continue
                for gate in torch.split(parameter.detach(), layer.hidden_size):
                    _fill(fill, gate, gain)


@torch.no_grad()
def _fill(fill: Callable[..., Tensor], weight: Tensor, gain: float) -> None:
    # The initializers want row-major memory.
    values = torch.empty(weight.shape, dtype=weight.dtype)
    fill(values, gain=gain)
    weight.copy_(values)


_NARROW = 16


@torch.no_grad()
def move_weights(module: nn.Module, device: torch.device) -> None:
    """Moves `module` to `device`, and puts the matrices of linear and recurrent layers into the memory order that is
    fastest there: column-major on a CPU (see `Linear`), row-major elsewhere and for few outputs. Values and shapes
    stay.

    A recurrent layer puts its weights side by side for cuDNN as soon as it is on a GPU, which takes row-major ones
    only. So the order of one device never travels to another.
    """
    if any(parameter.device != device for parameter in module.parameters()):
        for parameter in _matrices(module):
            parameter.data = parameter.detach().contiguous()
        module.to(device)
    if device.type == "cpu":
        for parameter in _matrices(module):
            data = parameter.detach()
            parameter.data = data.t().contiguous().t() if len(data) >= _NARROW else data.contiguous()


def _matrices(module: nn.Module) -> list[nn.Parameter]:
    return [
        parameter
        for layer in module.modules()
        if isinstance(layer, (nn.Linear, nn.GRU, nn.LSTM))
        for parameter in layer.parameters(recurse=False)
        if parameter.dim() == 2
    ]
