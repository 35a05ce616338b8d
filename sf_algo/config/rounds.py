"""Arithmetic of synchronous training, whose iterations are made of whole rounds of rollouts.

A round is one rollout of every agent of every environment. An iteration of part of a round would leave
trajectories over, to be trained on by a later policy.
"""

from __future__ import annotations


def nearest_fitting_batch(wanted: int, *, per_round: int, batches: int) -> int:
    """Trajectories of a batch, as near to `wanted` as possible, so that `batches` of them are whole rounds of
    `per_round` trajectories."""
    most_rounds = max(wanted // per_round + 1, 1) * batches
    # There is always one: with `batches` rounds, each batch is a round.
    sizes = [n * per_round // batches for n in range(1, most_rounds + 1) if n * per_round % batches == 0]
    return min(sizes, key=lambda size: abs(size - wanted))


def fills_rounds(trajectories: int, *, per_round: int) -> bool:
    """Whether an iteration of that many trajectories is made of whole rounds."""
    return trajectories > 0 and trajectories % per_round == 0
