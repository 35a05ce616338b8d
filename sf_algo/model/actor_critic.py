"""The policy and value network, and its factory.

Shape letters: N agents acting now, T steps, B trajectories, S numbers of recurrent state, P action
parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from sf_algo.envs.spec import EnvSpec
from sf_algo.model.types import ActOutput, SequenceOutput

if TYPE_CHECKING:
    from sf_algo.config import ModelConfig


class ActorCritic(nn.Module):
    """Encoder -> core -> action parameters and value. Its buffers hold the normalizers, so a copy of its
    `state_dict()` is all that inference needs."""

    rnn_state_size: int
    """S, the width of the packed recurrent state; 0 without a core."""

    def act(self, obs: Mapping[str, Tensor], rnn_states: Tensor) -> ActOutput:
        """One step of N agents. obs: name -> [N, ...] as the environment wrote it (uint8 stays uint8);
        rnn_states [N, S]. Gradients follow the caller's mode: wrap in `torch.inference_mode` to act."""
        raise NotImplementedError

    def evaluate_sequence(
        self, obs_TB: Mapping[str, Tensor], rnn_states_B: Tensor, reset_after_TB: Tensor
    ) -> SequenceOutput:
        """T steps of B trajectories: obs name -> [T, B, ...], state before row 0 [B, S], reset_after [T, B]
        bool. State and gradient are cut behind every row where reset_after is True."""
        raise NotImplementedError


def make_actor_critic(
    model_cfg: ModelConfig,
    env_spec: EnvSpec,
    *,
    obs_subtract_mean: float = 0.0,
    obs_scale: float = 1.0,
    normalize_input: bool = False,
    normalize_returns: bool = False,
    seed: int | None = None,
) -> ActorCritic:
    """Builds and initializes the network on the CPU; a seed makes the weights reproducible without touching
    torch's global generator. Raises `ConfigError` naming the flag for a combination that cannot be built."""
    raise NotImplementedError
