"""Full slots into the batches of the policies that acted in them. A policy that is late is left behind.

Where one policy is trained, a full slot waits until there is room for it: so a slow learner pauses sampling. Where
there are several, a slot waits for all policies in it, but not while another learner has nothing to do because of that:
then those without room are late. What they did in the slot is dropped, and so it goes on until they have room again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from sf_algo.acting.policies import TrainedPolicy
from sf_algo.buffers.layout import TrajectoryArrays


class Collector:
    """One thread calls it: the one that frees slots."""

    def __init__(
        self,
        policies: Sequence[TrainedPolicy],
        *,
        opponents: bool,
        on_collected: Callable[[int, int], None],
        on_dropped: Callable[[int, int], None],
    ) -> None:
        """`opponents`: agents may follow policies that are not trained. `on_collected` is told (policy, valid steps) of
        every slot that reached the batchers, `on_dropped` (policy, trajectories) of what a late policy could not take.
        """
        self.policies = policies
        self._several = len(policies) > 1 or opponents
        self._on_collected = on_collected
        self._on_dropped = on_dropped
        self._late: set[int] = set()

    @property
    def late(self) -> frozenset[int]:
        """Policies that have no room for what they did, while others wait for more."""
        return frozenset(self._late)

    def wanted(self, slot: TrajectoryArrays) -> Mapping[int, int]:
        """How many columns of a full slot each trained policy has acted in; those without any are left out."""
        if not self._several:
            return {self.policies[0].policy_id: slot["rewards"].shape[1]}
        ids = slot["policy_id"]
        present = np.unique(ids).tolist()
        return {policy: int((ids == policy).any(axis=0).sum()) for policy in present if policy < len(self.policies)}

    def takers(self, wanted: Mapping[int, int]) -> list[int] | None:
        """Who of a slot's policies takes what it did there, if the slot can be taken now: all but those that are
        late."""
        takers = []
        for policy, columns in wanted.items():
            if self.policies[policy].batcher.has_room(columns):
                self._late.discard(policy)
                takers.append(policy)
            elif policy not in self._late:
                return None
        return takers

    def note_blocked(self, slots: Iterable[Mapping[int, int]]) -> bool:
        """None of these slots can be taken. True when that has changed by finding out who is late."""
        if not self._several or not any(self._starves(policy) for policy in self.policies):
            return False
        lacking = {
            policy
            for wanted in slots
            for policy, columns in wanted.items()
            if not self.policies[policy].batcher.has_room(columns)
        }
        self._late |= lacking
        return bool(lacking)

    def _starves(self, policy: TrainedPolicy) -> bool:
        return policy.batcher.is_idle and policy.batcher.has_room(1)

    def take(self, slot: TrajectoryArrays, wanted: Mapping[int, int], takers: Sequence[int]) -> None:
        """Copies a slot into the batches of the takers."""
        for policy, columns in wanted.items():
            if policy in takers:
                self._on_collected(policy, self.policies[policy].batcher.add(slot))
            else:
                self._on_dropped(policy, columns)
