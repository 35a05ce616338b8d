"""What belongs to one policy on the side of sampling: its acting copy and its batches."""

from __future__ import annotations

from dataclasses import dataclass

from sf_algo.inference.policy import PolicyInference
from sf_algo.runtime.batcher import Batcher


@dataclass(frozen=True, kw_only=True)
class PolicyTeam:
    """One policy's pieces."""

    policy_id: int
    inference: PolicyInference
    batcher: Batcher
