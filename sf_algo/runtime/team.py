"""All that belongs to one policy: its learner, its acting copy, its batches."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sf_algo.inference.policy import PolicyInference
from sf_algo.learner.learner import Learner
from sf_algo.learner.stats import TrainStats
from sf_algo.runtime.batcher import Batcher, FullBatch


@dataclass(frozen=True, kw_only=True)
class TrainedBatch:
    """What one iteration of one policy's learner came to."""

    policy_id: int
    stats: TrainStats
    valid_steps: int
    """Steps of this policy in the batch that agents really took."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class PolicyTeam:
    """One policy's pieces. `train` is called by one thread at a time, the one that owns the learner."""

    policy_id: int
    learner: Learner
    inference: PolicyInference
    batcher: Batcher

    def train(self, full: FullBatch, env_steps: int) -> TrainedBatch:
        """Trains on a batch taken from the batcher, gives its memory back and hands the weights to
        inference."""
        began = time.monotonic()
        stats = self.learner.train(full.batch, env_steps=env_steps)
        self.batcher.give_back(full.batch)
        self.inference.take_weights(self.learner.model, stats.policy_version)
        return TrainedBatch(
            policy_id=self.policy_id,
            stats=stats,
            valid_steps=full.valid_steps,
            seconds=time.monotonic() - began,
        )


TrainedSink = Callable[[TrainedBatch], None]
