"""Acting with a plain perceptron, without the machinery of modules.

A forward pass of few agents through two layers of 512 takes 150 us in torch's kernels; calling it through the modules
that training needs takes half as much again. For environments that cost 5 us per step that is a quarter of everything
the acting process does. The kernels called, and so every bit of the results, are the same.

Shape letters: N agents acting now, P action parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sf_algo.model.activations import Activation
from sf_algo.model.actor_critic import ActorCritic, Tower, TowerActorCritic
from sf_algo.model.encoders import DictEncoder, MlpEncoder
from sf_algo.model.layers import Linear
from sf_algo.model.products import linear
from sf_algo.model.recurrent import NoCore

_NO_PIXELS: frozenset[str] = frozenset()


class PerceptronPolicy:
    """The forward pass of a model that is nothing but fully connected layers over one vector.

    It refers to the model's own parameters, so it never has to be told that they changed.
    """

    def __init__(
        self, model: TowerActorCritic, name: str, layers: Sequence[tuple[Linear, Activation]], head: Linear
    ) -> None:
        """`name`: the observation that `layers` and behind them `head` read."""
        self._name = name
        self._tower = model.towers[0]
        self._layers = [(layer.weight, layer.bias, activation) for layer, activation in layers]
        self._head = (head.weight, head.bias)
        self._log_stddev = model.log_stddev
        self._normalize = model.obs_normalizer.forward
        self._denormalize = model.denormalize_values

    @staticmethod
    def of(model: ActorCritic) -> PerceptronPolicy | None:
        """The policy of such a model; None for every other one."""
        if not isinstance(model, TowerActorCritic):
            return None
        tower = model.towers[0]
        assert isinstance(tower, Tower)
        encoder, head = tower.encoder, model.heads[0]
        if len(model.towers) != 1 or not isinstance(encoder, DictEncoder) or not isinstance(tower.core, NoCore):
            return None
        name, first = encoder.only_vector, encoder.vectors
        if name is None or first is None:
            return None
        if tower.decoder is not None and not isinstance(tower.decoder, MlpEncoder):
            return None
        parts: list[MlpEncoder] = [first, *([tower.decoder] if tower.decoder is not None else [])]
        layers = [pair for part in parts for pair in part.steps()]
        assert isinstance(head, Linear)
        if any(layer.spectral is not None for layer, _ in layers):
            return None
        return PerceptronPolicy(model, name, layers, head)

    @property
    def applies(self) -> bool:
        """Whether the model has not been told to use another precision."""
        return not self._tower.bf16

    def act(self, obs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """obs: name -> [N, ...] -> action parameters [N, P] and values [N], as `ActorCritic.act`."""
        x = self._normalize(obs, _NO_PIXELS)[self._name].flatten(1)
        for weight, bias, activation in self._layers:
            x = activation(linear(x, weight, bias))
        both = linear(x, *self._head)
        params, values = both[:, :-1], both[:, -1]
        if self._log_stddev is not None:
            params = torch.cat([params, self._log_stddev.expand(len(params), -1)], -1)
        return params, self._denormalize(values)
