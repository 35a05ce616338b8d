"""What an agent's episode adds up to, and what a match of several agents came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sf_algo.buffers.layout import TrajectoryArrays
from sf_algo.envs.spec import EpisodeStats, agent_episode_stats

_MASK = (1 << 64) - 1
MATCH_SCORE = "match_score"
"""Statistic of an agent's episode that decides a match. Where an environment has none, the reward does."""
WIN_RATE = "win_rate"
"""Statistic that every agent of a match between different players gets."""


@dataclass(frozen=True, kw_only=True)
class MatchReport:
    """An episode that agents of several players played together, from its beginning to its end."""

    players: Sequence[tuple[int, int]]
    """Of every agent: its policy, and the member of the pool of earlier selves that this was (`NOBODY`: none)."""
    scores: Sequence[float]
    """Of every agent: the more, the better."""


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
    match: MatchReport | None = None
    """The match that this was part of; told with its first agent only."""

    def to_message(self) -> list[Any]:
        """For JSON."""
        match = [] if self.match is None else [[*self.match.players], [*self.match.scores]]
        return [self.policy_id, self.reward, self.num_steps, self.stats, self.extras, *match]

    @staticmethod
    def from_message(values: Sequence[Any]) -> EpisodeReport:
        policy_id, reward, num_steps, stats, extras, *match = values
        played = MatchReport(players=[(p, m) for p, m in match[0]], scores=match[1]) if match else None
        return EpisodeReport(
            policy_id=policy_id, reward=reward, num_steps=num_steps, stats=stats, extras=extras, match=played
        )


def mix_seed(*parts: int) -> int:
    """A 31-bit seed from several numbers; equal for equal parts on every machine (splitmix64's finalizer)."""
    state = 0x9E3779B97F4A7C15
    for part in parts:
        state = (state + part + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state & 0x7FFFFFFF


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
    players: Sequence[tuple[int, int]] | None
    """Of every agent of the environment, where this was a match."""
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
        players: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        """The episodes of these columns end with this step; `policy_ids` are those of all columns, `extras` of all
        agents of the environment. `players`: who they were, where all of them have played a match."""
        counted = columns[self.counted[columns]]
        if len(counted) < len(columns):
            players = None
        drawn = policy_ids[counted].tolist()
        to_report = list(zip(counted.tolist(), drawn, strict=True))
        self._ended.append(_Ended(columns, to_report, first, players, stats, extras))

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
        reports: list[EpisodeReport] = []
        for ended in self._ended:
            own = []
            for column, policy_id in ended.to_report:
                agent = column - ended.first
                extras = ended.extras[agent] if ended.extras else None
                own.append(self.totals.report(column, policy_id, ended.stats, agent, extras))
            reports += own if ended.players is None else with_match(own, ended.players)
            self.totals.clear(ended.columns)
        self._ended.clear()
        return reports


def with_match(reports: Sequence[EpisodeReport], players: Sequence[tuple[int, int]]) -> list[EpisodeReport]:
    """The same reports of all agents of a match; the first one tells of the match. Each agent's share of the others'
    agents that it has beaten (a draw is half of that) is one more statistic, WIN_RATE."""
    scores = [report.stats.get(MATCH_SCORE, report.reward) for report in reports]
    told = []
    for report, player, score in zip(reports, players, scores, strict=True):
        others = [other for who, other in zip(players, scores, strict=True) if who != player]
        won = sum(0.5 * ((score > other) + (score >= other)) for other in others)
        told.append(replace(report, stats={**report.stats, WIN_RATE: won / len(others)}))
    return [replace(told[0], match=MatchReport(players=players, scores=scores)), *told[1:]]
