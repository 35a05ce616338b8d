"""Matches of several agents that are over soon: `--env=tests.algo.match_envs:make_highest_wins`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sf_algo.envs.spec import PLAIN_OBS, Env, EnvPlacement, EpisodeStats, ObsRow, StepResult
from sf_algo.testing import FakeEnv

CHOICES = 5


class HighestWins(FakeEnv):
    """Every agent picks a number, `length` times. The highest of them wins a point, the others lose one.

    The observation is the number of the agent and the share of the game that is over. With `scored`, the score of the
    match is the sum of the numbers, whatever the rewards are.
    """

    def __init__(self, *, num_agents: int = 2, length: int = 4, scored: bool = False, endless: bool = False) -> None:
        super().__init__(obs_size=2, num_actions=CHOICES, num_agents=num_agents)
        self._length = length
        self._scored = scored
        self._endless = endless
        self._step = 0
        self._scores = np.zeros(num_agents)

    def reset(self, out: Sequence[ObsRow], *, seed: int | None = None) -> None:
        self._step = 0
        self._scores[:] = 0
        self._write(out)

    def _write(self, out: Sequence[ObsRow]) -> None:
        for agent, row in enumerate(out):
            row[PLAIN_OBS][:] = (agent, self._step / self._length)

    def step(self, actions: NDArray[np.float32], out: Sequence[ObsRow]) -> StepResult:
        self._step += 1
        picked = actions[:, 0]
        self._scores += picked
        best = picked == picked.max()
        draw = best.all()
        rewards = np.zeros(len(picked), np.float32) if draw else np.where(best, 1.0, -1.0).astype(np.float32)
        self._write(out)
        stats: EpisodeStats = {"match_score": self._scores.copy()} if self._scored else {}
        over = self._step == self._length and not self._endless
        return self._result(rewards.tolist(), terminated=over, stats=stats)


def make_highest_wins(placement: EnvPlacement, num_agents: int = 2) -> Env:
    return HighestWins(num_agents=num_agents)


def make_first_is_endless(placement: EnvPlacement) -> Env:
    """The episodes of the first environments never end."""
    return HighestWins(endless=placement.env_index < 2)
