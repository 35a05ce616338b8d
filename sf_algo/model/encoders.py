"""What turns observations into features: convolutions for images, multilayer perceptrons for vectors.

With images among the observations, each gets its own convolutional encoder and every vector beside them
("measurements") two layers of 128, instructions in words an LSTM where --encoder_custom says so; the features are
concatenated. Without images all vectors go through one
perceptron together.

Shape letters: N rows, C x H x W an image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from sf_algo.config.model import INSTRUCTION_ENCODER
from sf_algo.envs.dmlab.instructions import INSTRUCTIONS
from sf_algo.envs.spec import ACTION_MASK, ObsSpec
from sf_algo.errors import ModelError
from sf_algo.model.activations import Activation, activation
from sf_algo.model.layers import Conv2d, Linear
from sf_algo.model.own import make_own
from sf_algo.model.words import WordsEncoder

if TYPE_CHECKING:
    from sf_algo.config import ModelConfig

NO_SECTIONS: Mapping[str, Any] = MappingProxyType({})
MEASUREMENT_LAYERS = (128, 128)

# (channels, kernel, stride) of every layer.
_CONVNETS: Mapping[str, Sequence[tuple[int, int, int]]] = {
    # The network of the VizDoom experiments of Petrenko et al. 2020, appendix B.
    "convnet_simple": ((32, 8, 4), (64, 4, 2), (128, 3, 2)),
    # The shallow network of Espeholt et al. 2018, figure 3.
    "convnet_impala": ((16, 8, 4), (32, 4, 2)),
    # Mnih et al. 2015.
    "convnet_atari": ((32, 8, 4), (64, 4, 2), (64, 3, 1)),
}
# For images too small for the others: few pixels, so each counts. The steps are 2 where there are more than 144.
_SMALL_CONVNET, _SMALL_PIXELS = "convnet_small", 144
_SMALL_CHANNELS = (32, 64, 64)
# (channels, residual blocks) of every section: the deep network of Espeholt et al. 2018, figure 3.
_RESNET_IMPALA = ((16, 2), (32, 2), (32, 2))


class Encoder(Protocol):
    """What an encoder offers, a user's own (--encoder_custom) too. It is an `nn.Module`."""

    out_size: int
    """Number of features."""

    def __call__(self, obs: dict[str, Tensor]) -> Tensor:
        """Normalized observations, name -> [N, ...] (all but the action mask) -> features [N, out_size]."""


class MlpEncoder(nn.Module):
    """Fully connected layers, each followed by the activation function."""

    def __init__(self, in_size: int, widths: Sequence[int], model_cfg: ModelConfig) -> None:
        super().__init__()
        sizes = [in_size, *widths]
        self.layers = nn.ModuleList([Linear(i, o) for i, o in pairwise(sizes)])
        self.out_size = sizes[-1]
        self._activation = activation(model_cfg.nonlinearity)

    def steps(self) -> list[tuple[Linear, Activation]]:
        """The layers in order, each with the activation that follows it."""
        return [(layer, self._activation) for layer in self.layers if isinstance(layer, Linear)]

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_size] -> [N, out_size]."""
        for layer in self.layers:
            x = self._activation(layer(x))
        return x


class ConvEncoder(nn.Module):
    """A stack of convolutions and fully connected layers over an image; takes raw pixels."""

    def __init__(self, spec: ObsSpec, model_cfg: ModelConfig, subtype: str, shift_scale: tuple[float, float]) -> None:
        super().__init__()
        self._activation = activation(model_cfg.nonlinearity)
        self._shift, self._scale = shift_scale
        channels = spec.shape[0]
        self.convolutions = nn.ModuleList()
        for out_channels, kernel, stride, padding in _conv_layers(spec, subtype):
            self.convolutions.append(Conv2d(channels, out_channels, kernel, stride, padding))
            channels = out_channels
        flat = _flat_size(self.convolve, spec, subtype)
        self.head = MlpEncoder(flat, _head_widths(model_cfg), model_cfg)
        self.out_size = self.head.out_size

    def convolve(self, x: Tensor) -> Tensor:
        """Pixels [N, C, H, W] -> what `head` takes."""
        first, *others = self.convolutions
        assert isinstance(first, Conv2d)
        x = self._activation(first.forward_pixels(x, self._shift, self._scale))
        for layer in others:
            x = self._activation(layer(x))
        return x.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Pixels [N, C, H, W], uint8 or float -> [N, out_size]."""
        features: Tensor = self.head(self.convolve(x))
        return features


class _Residual(nn.Module):
    """x + conv(f(conv(f(x))))."""

    def __init__(self, channels: int, model_cfg: ModelConfig) -> None:
        super().__init__()
        self.first = Conv2d(channels, channels, 3, 1, 1)
        self.second = Conv2d(channels, channels, 3, 1, 1)
        self._activation = activation(model_cfg.nonlinearity)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(self._activation(x.clone()))
        return x + self.second(self._activation(y))  # type: ignore[no-any-return]


class ResnetEncoder(nn.Module):
    """The deep residual network of Espeholt et al. 2018 and fully connected layers; takes raw pixels."""

    def __init__(self, spec: ObsSpec, model_cfg: ModelConfig, subtype: str, shift_scale: tuple[float, float]) -> None:
        super().__init__()
        self._activation = activation(model_cfg.nonlinearity)
        self._shift, self._scale = shift_scale
        channels = spec.shape[0]
        self.entries = nn.ModuleList()
        self.sections = nn.ModuleList()
        for out_channels, num_blocks in _RESNET_IMPALA:
            self.entries.append(Conv2d(channels, out_channels, 3, 1, 1))
            blocks = [_Residual(out_channels, model_cfg) for _ in range(num_blocks)]
            self.sections.append(nn.Sequential(*blocks))
            channels = out_channels
        flat = _flat_size(self.convolve, spec, subtype)
        self.head = MlpEncoder(flat, _head_widths(model_cfg), model_cfg)
        self.out_size = self.head.out_size

    def convolve(self, x: Tensor) -> Tensor:
        """Pixels [N, C, H, W] -> what `head` takes."""
        for index, (entry, section) in enumerate(zip(self.entries, self.sections, strict=True)):
            assert isinstance(entry, Conv2d)
            y = entry.forward_pixels(x, self._shift, self._scale) if index == 0 else entry(x)
            x = section(functional.max_pool2d(y, 3, 2, 1))
        return self._activation(x).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Pixels [N, C, H, W], uint8 or float -> [N, out_size]."""
        features: Tensor = self.head(self.convolve(x))
        return features


class DictEncoder(nn.Module):
    """Encodes a dictionary of observations and concatenates the features."""

    def __init__(
        self,
        obs: Mapping[str, ObsSpec],
        model_cfg: ModelConfig,
        pixel_shift_scale: Mapping[str, tuple[float, float]],
    ) -> None:
        """`pixel_shift_scale`: for every image what is to be subtracted from and divided out of its pixels.

        Raises:
            ModelError: the encoder of the flags does not fit the observations.
        """
        super().__init__()
        kind, subtype = _choose(obs, model_cfg)
        self._images = [name for name in obs if _is_image(obs[name], kind)]
        reads = INSTRUCTIONS in obs and model_cfg.encoder_custom == INSTRUCTION_ENCODER
        self.words = WordsEncoder() if reads else None
        apart = {ACTION_MASK, *self._images, *([INSTRUCTIONS] if reads else [])}
        self._vectors = [name for name in obs if name not in apart]
        make = ResnetEncoder if kind == "resnet" else ConvEncoder
        automatic = model_cfg.encoder_subtype == "auto"
        self.images = nn.ModuleList(
            [
                make(
                    obs[n],
                    model_cfg,
                    _SMALL_CONVNET if automatic and kind == "conv" and not _fits(obs[n], subtype) else subtype,
                    pixel_shift_scale.get(n, (0.0, 1.0)),
                )
                for n in self._images
            ]
        )
        in_size = sum(math.prod(obs[name].shape) for name in self._vectors)
        widths = MEASUREMENT_LAYERS if self._images else _mlp_widths(model_cfg, subtype)
        self.vectors = MlpEncoder(in_size, widths, model_cfg) if self._vectors else None
        encoders = [*self.images, *(part for part in (self.vectors, self.words) if part is not None)]
        self.out_size: int = sum(int(encoder.out_size) for encoder in encoders)
        self.raw_pixels = frozenset(self._images)
        """Observations that are taken as the environment wrote them."""

    @property
    def only_vector(self) -> str | None:
        """Name of the observation, where it is one vector and nothing else."""
        alone = len(self._vectors) == 1 and not self._images and self.words is None
        return self._vectors[0] if alone else None

    def forward(self, obs: Mapping[str, Tensor]) -> Tensor:
        """name -> [N, ...] -> [N, out_size]."""
        return self.finish(self.convolve(obs), obs)

    def convolve(self, obs: Mapping[str, Tensor]) -> list[Tensor]:
        """The first half of `forward`: what the convolutions make of every image [N, ...]."""
        return [enc.convolve(obs[name]) for name, enc in self._eyes()]

    def finish(self, convolved: Sequence[Tensor], obs: Mapping[str, Tensor]) -> Tensor:
        """The second half: from `convolve`'s results and the vectors in `obs` to the features [N, out_size]."""
        features: list[Tensor] = [enc.head(x) for (_, enc), x in zip(self._eyes(), convolved, strict=True)]
        if self.vectors is not None:
            flat = [obs[name].flatten(1) for name in self._vectors]
            features.append(self.vectors(flat[0] if len(flat) == 1 else torch.cat(flat, -1)))
        if self.words is not None:
            features.append(self.words(obs[INSTRUCTIONS]))
        return features[0] if len(features) == 1 else torch.cat(features, -1)

    def _eyes(self) -> Iterator[tuple[str, ConvEncoder | ResnetEncoder]]:
        for name, encoder in zip(self._images, self.images, strict=True):
            assert isinstance(encoder, (ConvEncoder, ResnetEncoder))
            yield name, encoder


def make_encoder(
    obs: Mapping[str, ObsSpec],
    model_cfg: ModelConfig,
    pixel_shift_scale: Mapping[str, tuple[float, float]],
    own: Mapping[str, Any] = NO_SECTIONS,
) -> nn.Module:
    """The encoder of the flags; a custom one is called as `make_encoder(model_cfg, obs_specs)`, and with those sections
    of the user's program, `own`, that it declares by name.

    Raises:
        ModelError: it does not fit the observations, or the custom one cannot be imported or is none.
    """
    if model_cfg.encoder_custom in (None, INSTRUCTION_ENCODER):
        return DictEncoder(obs, model_cfg, pixel_shift_scale)
    seen = {name: spec for name, spec in obs.items() if name != ACTION_MASK}
    by_name = {**own, "model_cfg": model_cfg, "obs_specs": seen}
    return make_own("encoder_custom", model_cfg.encoder_custom, [model_cfg, seen], by_name, sizes=["out_size"])


def _choose(obs: Mapping[str, ObsSpec], model_cfg: ModelConfig) -> tuple[str, str]:
    """Kind (conv, resnet, mlp) and subtype, with "auto" resolved."""
    has_images = any(_is_image(spec, "auto") for spec in obs.values())
    kind, subtype = str(model_cfg.encoder_type), str(model_cfg.encoder_subtype)
    if kind == "auto":
        by_subtype = {"auto": "conv" if has_images else "mlp", "resnet_impala": "resnet"}
        kind = by_subtype.get(subtype, "conv" if subtype in _CONVNETS else "mlp")
    if subtype == "auto":
        subtype = {"conv": "convnet_simple", "resnet": "resnet_impala", "mlp": "mlp"}[kind]
    shapes = ", ".join(f"{n} {spec.shape}" for n, spec in obs.items() if n != ACTION_MASK)
    if kind != "mlp" and not any(_is_image(spec, kind) for spec in obs.values()):
        raise ModelError(
            f"--encoder_type={kind} needs an image among the observations, which are {shapes}; use --encoder_type=mlp"
        )
    return kind, subtype


def _is_image(spec: ObsSpec, kind: str) -> bool:
    """Byte images, and float ones where a convolution is asked for; nothing for a perceptron."""
    return kind != "mlp" and (spec.is_image or (kind in ("conv", "resnet") and len(spec.shape) == 3))


def _conv_layers(spec: ObsSpec, subtype: str) -> Iterator[tuple[int, int, int, int]]:
    """(channels, kernel, stride, padding) of every layer."""
    if subtype != _SMALL_CONVNET:
        yield from ((channels, kernel, stride, 0) for channels, kernel, stride in _CONVNETS[subtype])
        return
    later = 2 if math.prod(spec.shape[1:]) > _SMALL_PIXELS else 1
    yield from ((channels, 3, later if layer else 1, 1) for layer, channels in enumerate(_SMALL_CHANNELS))


def _fits(spec: ObsSpec, subtype: str) -> bool:
    """Whether something of the image is left behind the convolutions."""
    sides = list(spec.shape[1:])
    for _, kernel, stride in _CONVNETS[subtype]:
        sides = [(side - kernel) // stride + 1 for side in sides]
    return min(sides) >= 1


def _head_widths(model_cfg: ModelConfig) -> tuple[int, ...]:
    chosen = model_cfg.encoder_conv_mlp_layers
    return chosen or (model_cfg.hidden_size,) * model_cfg.encoder_extra_fc_layers


def _mlp_widths(model_cfg: ModelConfig, subtype: str) -> tuple[int, ...]:
    if model_cfg.encoder_mlp_layers:
        return model_cfg.encoder_mlp_layers
    return (64, 64) if subtype == "mlp_mujoco" else (model_cfg.hidden_size,) * 2


class _Convolve(Protocol):
    def __call__(self, x: Tensor) -> Tensor: ...


@torch.no_grad()
def _flat_size(convolve: _Convolve, spec: ObsSpec, subtype: str) -> int:
    """Features behind the convolutions, by trying."""
    try:
        return int(convolve(torch.zeros(1, *spec.shape)).shape[1])
    except RuntimeError as error:
        raise ModelError(
            f"--encoder_subtype={subtype}: an image of {spec.shape} is too small for its convolutions; "
            "leave --encoder_subtype out (a network that fits is chosen then), or use --encoder_type=resnet, an "
            "encoder of your own (--encoder_custom) or a larger image"
        ) from error
