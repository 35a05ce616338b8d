"""Parts of networks as users bring them, named by tests by their import path."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class GruCore(nn.Module):
    """Torch's own GRU cell, with no way to go through a sequence."""

    def __init__(self, in_size: int, model_cfg: Any) -> None:
        super().__init__()
        self.cell = nn.GRUCell(in_size, model_cfg.hidden_size)
        self.out_size = self.state_size = int(model_cfg.hidden_size)

    def step(self, x: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        states = self.cell(x, states)
        return states, states


class Plain(nn.Module):
    """The plain observation itself."""

    out_size = 4

    def forward(self, obs: dict[str, Tensor]) -> Tensor:
        return obs["obs"]


class Squeeze(nn.Module):
    """A core that remembers nothing, or a decoder."""

    state_size = 0

    def __init__(self, size: int, section: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(size, section.width)
        self.out_size = int(section.width)

    def step(self, x: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        return self(x), states

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(x))


class Network(nn.Module):
    """A whole actor-critic with a state."""

    def __init__(self, cfg: Any, specs: Any, num: int, section: Any = None) -> None:
        super().__init__()
        self.state_size = 5
        self.remember = nn.Linear(specs["obs"].shape[0] + 5, 5)
        self.heads = nn.Linear(5, num + 1)

    def forward(self, obs: dict[str, Tensor], states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        states = torch.tanh(self.remember(torch.cat([obs["obs"], states], -1)))
        out = self.heads(states)
        return out[:, :-1], out[:, -1], states


class Stateless(Network):
    def __init__(self, model_cfg: Any, obs_specs: Any, num_action_params: int) -> None:
        super().__init__(model_cfg, obs_specs, num_action_params)
        self.state_size = 0

    def forward(self, obs: dict[str, Tensor], states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        params, values, _ = super().forward(obs, states.new_zeros(len(states), 5))
        return params, values, states


class WrongShapes(Stateless):
    def forward(self, obs: dict[str, Tensor], states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        params, values, states = super().forward(obs, states)
        return params, values[:, None], states


def make_mixed(model_cfg: Any, specs: Any, *, section: Any) -> nn.Module:
    """One parameter by its name, one by its place."""
    assert (model_cfg.hidden_size, section.width, specs["obs"].shape) == (16, 7, (4,))
    return Plain()


def raising(in_size: int) -> nn.Module:
    raise RuntimeError("no luck today")
