"""Which policy every agent follows in an episode."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sf_algo.ipc.roster import NOBODY, Roster, RosterView
from sf_algo.rollout.episodes import mix_seed

_SIDE, _AGENT = 1, 2
"""Purposes of a draw, mixed into its seed."""


class PolicyDraw:
    """Draws the policy of every agent of an environment for one episode.

    With `mix` every agent draws for itself, otherwise all agents of a role follow the same policy. Where there are as
    many policies as roles or more, each role has policies of its own: policy p serves role p modulo roles. The draw
    depends on the seed, the environment, the episode and the roster only, never on the order of calls. Without a
    roster, or as long as nothing is written in it, all policies are drawn equally often.

    In some matches (`RosterView.opponent_share`) one agent follows a policy in training, and all others follow
    opponents: of several roles, one role follows policies in training.
    """

    def __init__(
        self, *, num_policies: int, mix: bool, seed: int, roles: Sequence[int] = (), roster: Roster | None = None
    ) -> None:
        """`num_policies`: those in training. `roles`: number of each agent's role, from 0; empty: all have the same."""
        self.num_policies = num_policies
        self._mix = mix
        self._seed = seed
        self._roster = roster
        self._roles = roles
        self._num_roles = max(roles, default=0) + 1
        self._separate = 1 < self._num_roles <= num_policies
        by_role = [range(role, num_policies, self._num_roles) for role in range(self._num_roles)]
        self._choices = [by_role[role] for role in roles] if self._separate else []

    def draw(self, *, env_index: int, episode: int, num_agents: int) -> NDArray[np.int32]:
        """Policy ids [num_agents] for episode number `episode` of environment `env_index`."""
        view = self._view()
        if self.num_policies == 1 and (view is None or view.opponent_share == 0.0):
            return np.zeros(num_agents, np.int32)
        match_seed = mix_seed(self._seed, env_index, episode)
        seeds = [match_seed] * num_agents
        if self._mix:
            seeds = [mix_seed(self._seed, env_index, episode, agent) for agent in range(num_agents)]
        ids = np.asarray([self._pick(agent, seed, view) for agent, seed in enumerate(seeds)], np.int32)
        if view is not None and _share_of_one(mix_seed(match_seed, _SIDE)) < view.opponent_share:
            self._put_opponents(ids, match_seed, view)
        return ids

    def draw_one(self, *, env_index: int, agent: int, episode: int) -> int:
        """The policy of an agent that begins episodes on its own, for its episode number `episode`."""
        return self._pick(agent, mix_seed(self._seed, env_index, agent, episode), self._view())

    def members(self, policy_ids: NDArray[np.int32]) -> NDArray[np.int64]:
        """Which members of the pool of earlier selves these policies are now."""
        view = self._view()
        if view is None:
            return np.full(policy_ids.shape, NOBODY, np.int64)
        return view.members[policy_ids]

    def _view(self) -> RosterView | None:
        if self._roster is None or not self._roster.version:
            return None
        return self._roster.view()

    def _pick(self, agent: int, seed: int, view: RosterView | None) -> int:
        """One of the policies in training."""
        if view is not None:
            drawn = _weighted(view.weights[: self.num_policies, self._role(agent)], seed)
            if drawn is not None:
                return drawn
        if not self._separate:
            return seed % self.num_policies
        choices = self._choices[agent]
        return choices[seed % len(choices)]

    def _role(self, agent: int) -> int:
        return self._roles[agent] if self._roles else 0

    def _put_opponents(self, ids: NDArray[np.int32], match_seed: int, view: RosterView) -> None:
        """All agents but one, or but those of one role, follow opponents."""
        chosen = mix_seed(match_seed, _AGENT) % len(ids)
        for agent in range(len(ids)):
            same_side = self._role(agent) == self._role(chosen) if self._num_roles > 1 else agent == chosen
            if same_side:
                continue
            seed = mix_seed(match_seed, _AGENT, agent)
            drawn = _weighted(view.weights[self.num_policies :, self._role(agent)], seed)
            if drawn is not None:
                ids[agent] = self.num_policies + drawn


def _share_of_one(seed: int) -> float:
    """A number from 0 to 1 (excluded)."""
    return seed / 2**31


def _weighted(weights: NDArray[np.float64], seed: int) -> int | None:
    """An index drawn by weight; None where nobody has any."""
    sums = np.cumsum(weights)
    if not len(sums) or sums[-1] <= 0.0:
        return None
    return int(np.searchsorted(sums, _share_of_one(seed) * sums[-1], side="right"))
