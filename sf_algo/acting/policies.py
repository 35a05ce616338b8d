"""What there is of a policy where experience is collected: those that act, and those of them that are trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sf_algo.acting.inference import PolicyInference
from sf_algo.batcher import Batcher, RoundBatcher
from sf_algo.timing import Stage


@dataclass(frozen=True, kw_only=True)
class ActingPolicy:
    """A policy that agents follow: one in training, or an opponent whose weights are frozen.

    Those in training have the ids 0 to num_policies - 1, opponents the ids after these.
    """

    policy_id: int
    inference: PolicyInference


@dataclass(frozen=True, kw_only=True)
class TrainedPolicy:
    """A policy in training: where it acts, and the batches that are being filled for it."""

    policy_id: int
    inference: PolicyInference
    batcher: Batcher | RoundBatcher
    """The latter where sampling and learning take turns."""

    @property
    def rounds(self) -> RoundBatcher:
        """The batcher, where sampling and learning take turns."""
        assert isinstance(self.batcher, RoundBatcher), "learning does not take turns with sampling"
        return self.batcher

    @property
    def acting(self) -> ActingPolicy:
        return ActingPolicy(policy_id=self.policy_id, inference=self.inference)


def acting_times(policies: Sequence[ActingPolicy]) -> dict[Stage, float]:
    """Seconds that acting has taken so far, for all policies together."""
    return {
        Stage.TRANSPORT: sum(policy.inference.transport_s for policy in policies),
        Stage.INFERENCE: sum(policy.inference.forward_s for policy in policies),
    }
