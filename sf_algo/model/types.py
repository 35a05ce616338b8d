"""What crosses the boundary of the model.

Shape letters: N agents acting now, T steps of a rollout, B trajectories, S numbers of recurrent state, P
parameters of the action distribution, W = `ActionSpec.width`.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class ActOutput(NamedTuple):
    """One forward pass for N agents. The layouts are `ActionFamily`'s and `Core`'s."""

    action_params: Tensor
    """[N, P] float32: parameters of the action distribution, before any action mask."""
    values: Tensor
    """[N] float32, in units of (scaled, clipped) reward also where returns are normalized."""
    rnn_states: Tensor
    """[N, S] float32, the state after this observation; S = 0 without a recurrent core."""


class SequenceOutput(NamedTuple):
    """A forward pass over T steps of B trajectories, with gradients where enabled."""

    action_params: Tensor
    """[T, B, P] float32."""
    values: Tensor
    """[T, B] float32, as the network outputs them: normalized where `normalize_returns` is on."""
    final_states: Tensor
    """[B, S] float32: the state after row T-1, zeroed where `reset_after[T-1]`."""


class ActedStep(NamedTuple):
    """What one step of inference writes back, in the order of the agents asked for."""

    actions: Tensor
    """[N, W] float32."""
    log_probs: Tensor
    """[N] float32: log-probability of `actions` under the policy that acted."""
    values: Tensor
    """[N] float32, as in `ActOutput`."""
    rnn_states: Tensor
    """[N, S] float32."""
