"""One pass of the network over trajectories, and the value behind their last row.

Shape letters: T steps, B trajectories, R steps of backpropagation through time, S numbers of recurrent state,
P action parameters.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sf_algo.learner.samples import Samples
from sf_algo.model.actor_critic import ActorCritic


class Forward(NamedTuple):
    """What the network says about trajectories."""

    action_params: Tensor
    """[T, B, P]."""
    values: Tensor
    """[T, B], in the network's units."""
    bootstrap_values: Tensor
    """[B], of row T, in units of reward, without gradient."""


def evaluate(model: ActorCritic, samples: Samples, recurrence: int) -> Forward:
    """Evaluates whole trajectories with gradients. `recurrence` divides T: every `recurrence` steps the
    recurrent state is the one stored while acting; between them it is recomputed and backpropagated
    through."""
    T = samples.rollout
    rows = {name: x[:T] for name, x in samples.obs.items()}
    if recurrence == T or not model.rnn_state_size:
        out = model.evaluate_sequence(rows, samples.rnn_states[0], samples.reset_after)
        return Forward(out.action_params, out.values, bootstrap_values(model, samples, out.final_states))
    pieces = T // recurrence
    out = model.evaluate_sequence(
        {name: _side_by_side(x, pieces) for name, x in rows.items()},
        samples.rnn_states[:T:recurrence].flatten(0, 1),
        _side_by_side(samples.reset_after, pieces),
    )
    params = _one_behind_the_other(out.action_params, pieces)
    values = _one_behind_the_other(out.values, pieces)
    return Forward(params, values, bootstrap_values(model, samples, samples.rnn_states[T]))


@torch.no_grad()
def bootstrap_values(model: ActorCritic, samples: Samples, rnn_states: Tensor) -> Tensor:
    """[B]: V of row T in units of reward, from the states [B, S] in front of it."""
    last = {name: x[samples.rollout] for name, x in samples.obs.items()}
    return model.act(last, rnn_states).values


def _side_by_side(x: Tensor, pieces: int) -> Tensor:
    """[T, B, ...] -> [R, pieces * B, ...]: the pieces become sequences of their own."""
    T, B = x.shape[:2]
    split = x.reshape(pieces, T // pieces, B, *x.shape[2:])
    return split.transpose(0, 1).reshape(T // pieces, pieces * B, *x.shape[2:])


def _one_behind_the_other(x: Tensor, pieces: int) -> Tensor:
    """The inverse of `_side_by_side`."""
    R, columns = x.shape[:2]
    split = x.reshape(R, pieces, columns // pieces, *x.shape[2:])
    return split.transpose(0, 1).reshape(R * pieces, columns // pieces, *x.shape[2:])
