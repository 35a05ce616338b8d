"""Who plays whom: which episodes of several agents are matches between different players."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sf_algo.ipc.roster import NOBODY
from sf_algo.rollout.policy_draw import PolicyDraw


class Players:
    """Of the agents of one split. A player is a policy in training, or one member of the pool of earlier selves."""

    def __init__(self, draw: PolicyDraw, policy_ids: NDArray[np.int32], *, meet: bool) -> None:
        """`policy_ids` [N] are kept up to date by the split. `meet`: the agents of an environment begin and end their
        episodes together."""
        self._meet = meet
        self._draw = draw
        self._policy_ids = policy_ids
        self.members = np.full(len(policy_ids), NOBODY, np.int64)
        """[N]: which members of the pool the agents were when their episodes began."""

    def restore(self, members: NDArray[np.int64] | None) -> None:
        """Goes on with the members of a checkpoint, if it has any."""
        if members is not None:
            self.members[:] = members

    def begin(self, columns: slice) -> None:
        """These agents, whose policies have been drawn, begin an episode."""
        self.members[columns] = self._draw.members(self._policy_ids[columns])

    def of_match(self, columns: slice) -> list[tuple[int, int]] | None:
        """Who these agents were in the episode that ends; None where that is no match: only one player, or one that
        became another in the middle."""
        if not self._meet:
            return None
        ids, members = self._policy_ids[columns], self.members[columns]
        if not np.array_equal(members, self._draw.members(ids)):
            return None
        players = list(zip(ids.tolist(), members.tolist(), strict=True))
        return players if len(set(players)) > 1 else None
