"""What one call of `Learner.train` reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TrainStats:
    """Figures of one call. `summaries` are ready for tensorboard under `train/<name>`."""

    policy_version: int
    """Optimizer steps done so far, after this call."""
    num_samples: int
    """Rows trained on in this call: T * B, epochs not counted twice."""
    num_valid_samples: int
    """Of these, rows that entered the loss (not filler, inactive, foreign or stale)."""
    num_updates: int
    """Optimizer steps of this call; 0 where every trajectory was dropped."""
    summaries: Mapping[str, float]
