"""What an agent's episode adds up to, and which policy plays it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sf_algo.buffers.layout import TrajectoryArrays
from sf_algo.envs.spec import EpisodeStats, agent_episode_stats

_MASK = (1 << 64) - 1


@dataclass(frozen=True, kw_only=True)
class EpisodeReport:
    """One finished episode of one agent."""

    policy_id: int
    reward: float
    """Sum of the rewards that the policy saw."""
    num_steps: int
    """Decisions taken; times the frame skip it is the length in frames."""
    stats: dict[str, float] = field(default_factory=dict)
    """The environment's own statistics, `true_reward` among them where shaping changes rewards."""
    extras: Any = None
    """What the environment says of the episode beside numbers, as JSON can say it."""


def mix_seed(*parts: int) -> int:
    """A 31-bit seed from several numbers; equal for equal parts on every machine (splitmix64's finalizer)."""
    state = 0x9E3779B97F4A7C15
    for part in parts:
        state = (state + part + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state & 0x7FFFFFFF


class PolicyDraw:
    """Draws the policy of every agent of an environment for one episode, uniformly.

    With `mix` every agent draws for itself, otherwise all agents of a role follow the same policy. Where there are as
    many policies as roles or more, each role has policies of its own: policy p serves role p modulo roles. The draw
    depends on the seed, the environment and the episode only, never on the order of calls.
    """

    def __init__(self, *, num_policies: int, mix: bool, seed: int, roles: Sequence[int] = ()) -> None:
        """`roles`: number of each agent's role, from 0; empty: all have the same."""
        self.num_policies = num_policies
        self._mix = mix
        self._seed = seed
        num_roles = max(roles, default=0) + 1
        self._separate = 1 < num_roles <= num_policies
        by_role = [range(role, num_policies, num_roles) for role in range(num_roles)]
        self._choices = [by_role[role] for role in roles] if self._separate else []

    def draw(self, *, env_index: int, episode: int, num_agents: int) -> NDArray[np.int32]:
        """Policy ids [num_agents] for episode number `episode` of environment `env_index`."""
        if self.num_policies == 1:
            return np.zeros(num_agents, np.int32)
        seeds = [mix_seed(self._seed, env_index, episode)] * num_agents
        if self._mix:
            seeds = [mix_seed(self._seed, env_index, episode, agent) for agent in range(num_agents)]
        return np.asarray([self._pick(agent, seed) for agent, seed in enumerate(seeds)], np.int32)

    def draw_one(self, *, env_index: int, agent: int, episode: int) -> int:
        """The policy of an agent that begins episodes on its own, for its episode number `episode`."""
        return self._pick(agent, mix_seed(self._seed, env_index, agent, episode))

    def _pick(self, agent: int, seed: int) -> int:
        if not self._separate:
            return seed % self.num_policies
        choices = self._choices[agent]
        return choices[seed % len(choices)]


class EpisodeTotals:
    """Running reward and length of every agent of a split (N agents)."""

    def __init__(self, num_agents: int) -> None:
        self.rewards = np.zeros(num_agents, np.float64)
        self.steps = np.zeros(num_agents, np.int64)

    def report(
        self, column: int, policy_id: int, stats: EpisodeStats | None, agent: int, extras: Any = None
    ) -> EpisodeReport:
        """The finished episode of agent `column` of the split, which is `agent` of its environment."""
        return EpisodeReport(
            policy_id=policy_id,
            reward=float(self.rewards[column]),
            num_steps=int(self.steps[column]),
            stats=agent_episode_stats(stats, agent) if stats else {},
            extras=extras,
        )

    def clear(self, columns: slice | NDArray[np.int64]) -> None:
        self.rewards[columns] = 0.0
        self.steps[columns] = 0


class _Ended(NamedTuple):
    """Episodes of agents of one environment that ended in this step."""

    columns: NDArray[np.int64]
    to_report: list[tuple[int, int]]
    """Column and policy of those that count."""
    first: int
    """The environment's first column."""
    stats: EpisodeStats | None
    extras: Sequence[Any] | None
    """Of every agent of the environment."""


class EpisodeEnds:
    """Which episodes of a split's agents end, and what they amounted to."""

    def __init__(self, num_agents: int) -> None:
        self.totals = EpisodeTotals(num_agents)
        self.counted = np.ones(num_agents, np.bool_)
        """False for agents whose episode is not reported: part of it was played at random, or it was given up."""
        self._ended: list[_Ended] = []

    @property
    def pending(self) -> bool:
        """Episodes have been noted since the last `take`."""
        return bool(self._ended)

    def note(
        self,
        columns: NDArray[np.int64],
        first: int,
        stats: EpisodeStats | None,
        policy_ids: NDArray[np.int32],
        extras: Sequence[Any] | None = None,
    ) -> None:
        """The episodes of these columns end with this step; `policy_ids` are those of all columns, `extras` of all
        agents of the environment."""
        counted = columns[self.counted[columns]]
        drawn = policy_ids[counted].tolist()
        self._ended.append(_Ended(columns, list(zip(counted.tolist(), drawn, strict=True)), first, stats, extras))

    def credit_late(self, slot: TrajectoryArrays, t: int, column: int) -> None:
        """A reward that comes while an agent is out of the game is for what it did last, where that is in this slot:
        nothing is learned from row t."""
        reward = slot["rewards"][t, column]
        if reward == 0.0 or not np.isfinite(reward):
            return
        for row in range(t - 1, -1, -1):
            if slot["reset_after"][row, column]:
                return
            if slot["valid"][row, column]:
                slot["rewards"][row, column] += reward
                slot["rewards"][t, column] = 0.0
                self.totals.rewards[column] += reward
                return

    def take(self) -> list[EpisodeReport]:
        """Reports of what was noted, once the rewards of the step have been added."""
        reports = []
        for ended in self._ended:
            for column, policy_id in ended.to_report:
                agent = column - ended.first
                extras = ended.extras[agent] if ended.extras else None
                reports.append(self.totals.report(column, policy_id, ended.stats, agent, extras))
            self.totals.clear(ended.columns)
        self._ended.clear()
        return reports
