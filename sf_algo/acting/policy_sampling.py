"""What sampling keeps for one policy: its acting copy and the batches that are being filled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sf_algo.acting.inference import PolicyInference
from sf_algo.batcher import Batcher
from sf_algo.timing import Stage


@dataclass(frozen=True, kw_only=True)
class PolicySampling:
    """One policy's pieces."""

    policy_id: int
    inference: PolicyInference
    batcher: Batcher


def acting_times(policies: Sequence[PolicySampling]) -> dict[Stage, float]:
    """Seconds that acting has taken so far, for all policies together."""
    return {
        Stage.TRANSPORT: sum(policy.inference.transport_s for policy in policies),
        Stage.INFERENCE: sum(policy.inference.forward_s for policy in policies),
    }
