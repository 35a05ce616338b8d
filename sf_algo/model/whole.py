"""A whole network of policy and value that the user brings (--actor_critic_custom).

Shape letters: N agents acting now, T steps, B trajectories, S numbers of recurrent state, P action parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor, nn

from sf_algo.envs.spec import ACTION_MASK, ObsSpec
from sf_algo.errors import ModelError
from sf_algo.model.base import ActorCritic
from sf_algo.model.distributions import ActionFamily
from sf_algo.model.normalizers import ObsNormalizer, RunningMeanStd
from sf_algo.model.own import make_own
from sf_algo.model.types import ActOutput, SequenceOutput
from sf_algo.model.uploading import uploaded

if TYPE_CHECKING:
    from sf_algo.config import ModelConfig


class Network(Protocol):
    """What such a network offers. It is an `nn.Module` and comes initialized."""

    state_size: int
    """S, the width of one agent's state; 0 for a network that remembers nothing."""

    def __call__(self, obs: dict[str, Tensor], states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step of N agents: normalized observations, name -> [N, ...] (all but the action mask), states [N, S] ->
        action parameters [N, P], values [N], states [N, S].

        P is given to the maker as `num_action_params`: for every Discrete action its logits, for every Box its means
        and the logarithms of its standard deviations, in the order of the action space.
        """


def make_whole(
    path: str, model_cfg: ModelConfig, obs_specs: Mapping[str, ObsSpec], num_action_params: int, own: Mapping[str, Any]
) -> nn.Module:
    """Calls `make_network(model_cfg, obs_specs, num_action_params)`, and with those sections of the user's program that
    it declares by name. Raises ModelError."""
    positional = [model_cfg, obs_specs, num_action_params]
    by_name = {**own, "model_cfg": model_cfg, "obs_specs": obs_specs, "num_action_params": num_action_params}
    net = make_own("actor_critic_custom", path, positional, by_name, sizes=["state_size"])
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise ModelError(f"--actor_critic_custom={path}: the network has no parameters to train")
    return net


class WholeActorCritic(ActorCritic):
    """The user's network between our normalizers and distributions."""

    def __init__(
        self,
        net: nn.Module,
        family: ActionFamily,
        obs_normalizer: ObsNormalizer,
        returns_normalizer: RunningMeanStd | None,
    ) -> None:
        super().__init__(family, obs_normalizer, returns_normalizer)
        self.net = net
        self.rnn_state_size = int(cast(Any, net).state_size)

    def act(self, obs: Mapping[str, Tensor], rnn_states: Tensor) -> ActOutput:
        """As `ActorCritic.act`."""
        params, values, states = self._step(self.obs_normalizer(obs, _NO_PIXELS), rnn_states)
        return ActOutput(params, self.denormalize_values(values), states)

    def evaluate_sequence(
        self, obs_TB: Mapping[str, Tensor], rnn_states_B: Tensor, reset_after_TB: Tensor
    ) -> SequenceOutput:
        """As `ActorCritic.evaluate_sequence`; with a state, step by step."""
        T, B = reset_after_TB.shape
        rows = {name: x.flatten(0, 1) for name, x in obs_TB.items() if name != ACTION_MASK}
        prepared = self.obs_normalizer(rows, _NO_PIXELS)
        if self.rnn_state_size == 0:
            params, values, _ = self._step(prepared, rnn_states_B.new_zeros(T * B, 0))
            return SequenceOutput(params.view(T, B, -1), values.view(T, B), rnn_states_B)
        keep = uploaded((~reset_after_TB).to(rnn_states_B.dtype), rnn_states_B.device).unsqueeze(-1)
        outputs = []
        states = rnn_states_B
        for t in range(T):
            row = {name: x[t * B : (t + 1) * B] for name, x in prepared.items()}
            params, values, states = self._step(row, states)
            states = states * keep[t]
            outputs.append((params, values))
        params, values = (torch.stack(parts) for parts in zip(*outputs, strict=True))
        return SequenceOutput(params, values, states)

    def _step(self, obs: dict[str, Tensor], states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        params, values, states = self.net(obs, states)
        N = len(states)
        shapes = (tuple(params.shape), tuple(values.shape), tuple(states.shape))
        wanted = ((N, self.family.num_params), (N,), (N, self.rnn_state_size))
        if shapes != wanted:
            raise ModelError(
                f"the network of --actor_critic_custom returned action parameters, values and states of the shapes "
                f"{', '.join(map(str, shapes))} instead of {', '.join(map(str, wanted))}"
            )
        return params, values, states


_NO_PIXELS: frozenset[str] = frozenset()
