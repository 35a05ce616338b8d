"""What every network of policy and value offers, whoever built it.

Shape letters: N agents acting now, T steps, B trajectories, S numbers of recurrent state, P action parameters, M
choices of all Discrete actions.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sf_algo.model.distributions import ActionDistribution, ActionFamily
from sf_algo.model.layers import move_weights, power_iterations
from sf_algo.model.normalizers import ObsNormalizer, RunningMeanStd
from sf_algo.model.types import ActOutput, SequenceOutput


class ActorCritic(nn.Module):
    """Observations -> action parameters and value. Its buffers hold the normalizers, so a copy of its
    `state_dict()` is all that inference needs."""

    rnn_state_size: int
    """S, the width of the packed recurrent state; 0 without memory."""

    def __init__(
        self, family: ActionFamily, obs_normalizer: ObsNormalizer, returns_normalizer: RunningMeanStd | None
    ) -> None:
        super().__init__()
        self.family = family
        self.obs_normalizer = obs_normalizer
        self.returns_normalizer = returns_normalizer

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def distribution(self, params: Tensor, action_mask: Tensor | None = None) -> ActionDistribution:
        """The distribution of actions for parameters [..., P] and mask [..., M]."""
        return self.family.bind(params, action_mask)

    def act(self, obs: Mapping[str, Tensor], rnn_states: Tensor) -> ActOutput:
        """One step of N agents. obs: name -> [N, ...] as the environment wrote it (uint8 stays uint8);
        rnn_states [N, S]. Gradients follow the caller's mode: wrap in `torch.inference_mode` to act."""
        raise NotImplementedError

    def evaluate_sequence(
        self, obs_TB: Mapping[str, Tensor], rnn_states_B: Tensor, reset_after_TB: Tensor
    ) -> SequenceOutput:
        """T steps of B trajectories: obs name -> [T, B, ...], state before row 0 [B, S], reset_after [T, B]
        bool (may stay on the CPU). State and gradient are cut behind every row where reset_after is True."""
        raise NotImplementedError

    def use_bf16(self, wanted: bool) -> None:
        """Encode in bfloat16 from now on. Fast on GPUs and on CPUs with AMX; on others up to 6 times
        slower."""

    def denormalize_values(self, values: Tensor) -> Tensor:
        """The network's values in units of reward."""
        return values if self.returns_normalizer is None else self.returns_normalizer.denormalize(values)

    def standardize_values(self, values: Tensor) -> Tensor:
        """Values in units of reward in the network's units: the inverse of `denormalize_values`."""
        return values if self.returns_normalizer is None else self.returns_normalizer.standardize(values)

    def normalize_values(self, values: Tensor) -> Tensor:
        """Values or returns in the network's units, clipped where returns are normalized."""
        return values if self.returns_normalizer is None else self.returns_normalizer.normalize(values)

    def power_iterations(self) -> None:
        """Refreshes the estimates of spectral norms; once per optimizer step."""
        power_iterations(self)

    def arrange(self, device: torch.device) -> ActorCritic:
        """Moves the network to `device` and puts its weights into the memory order that is fastest there."""
        move_weights(self, device)
        return self
