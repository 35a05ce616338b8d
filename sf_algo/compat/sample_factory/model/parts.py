"""Registered parts of networks, as the trainer calls them; named by import path in the configuration.

Shape letters: N agents, S numbers of recurrent state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from torch import Tensor, nn

from sf_algo.compat.sample_factory.context import CONTEXT
from sf_algo.errors import ModelError


class Part(nn.Module):
    """An encoder or decoder with `get_out_size()` as one with `out_size`."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part
        self.out_size = int(part.get_out_size())  # type: ignore[operator]

    def forward(self, x: Any) -> Tensor:
        features: Tensor = self.part(x)
        return features


class Core(Part):
    """A core, called once per step."""

    def __init__(self, part: nn.Module, state_size: int) -> None:
        super().__init__(part)
        self.state_size = state_size

    def step(self, x: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        """x [N, in] and states [N, S] to outputs [N, out_size] and states [N, S]."""
        out, states = self.part(x, states)
        return out, states


def make_encoder(model_cfg: Any, obs_specs: Mapping[str, Any]) -> Part:
    """The registered encoder."""
    return Part(_made("encoder", obs_space(obs_specs)))


def make_decoder(in_size: int, model_cfg: Any) -> Part:
    """The registered decoder."""
    return Part(_made("decoder", in_size))


def make_core(in_size: int, model_cfg: Any) -> Core:
    """The registered core."""
    cfg = CONTEXT.cfg
    state_size = cfg.hidden_size * cfg.rnn_num_layers * (2 if cfg.rnn_type == "lstm" else 1) if cfg.use_rnn else 0
    return Core(_made("core", in_size), state_size)


def obs_space(obs_specs: Mapping[str, Any]) -> spaces.Dict:
    """The space that projects expect: images are bytes, CHW; all else is unbounded."""
    boxes: dict[str, spaces.Space[Any]] = {}
    for name, spec in obs_specs.items():
        low, high = (0, 255) if spec.dtype == np.uint8 else (-np.inf, np.inf)
        boxes[name] = spaces.Box(low, high, spec.shape, spec.dtype.type)
    return spaces.Dict(boxes)


def _made(kind: str, given: Any) -> nn.Module:
    if kind not in CONTEXT.models.makers or CONTEXT.cfg is None:
        raise ModelError(
            f"the {kind} of this experiment was registered by a program; start that program, not the trainer's command"
        )
    made: nn.Module = CONTEXT.models.makers[kind](CONTEXT.cfg, given)
    return made
