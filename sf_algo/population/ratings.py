"""How strong players are, from games between pairs of them. Pure.

The model of Bradley and Terry (Biometrika 1952): the first of two wins with probability 1 / (1 + exp(b - a)), where a
and b are their strengths; a draw is half a win for each. Strengths are the most probable ones under a weak normal
prior, so that whoever has won all games is not infinitely strong, and intervals come from the curvature there
(Laplace). They are told on Elo's scale: 400 points are odds of 10 to 1, and the mean of all players is 1000.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ELO_PER_LOGIT = 400.0 / math.log(10.0)
MEAN_RATING = 1000.0
PRIOR_STD = 3.0
"""Of a player's strength, in logits (about 520 points)."""
Z_95 = 1.959964
_MOST_STEPS = 100


@dataclass(frozen=True, kw_only=True)
class PairResult:
    """What came of the games between two players, as the first sees it."""

    first: str
    second: str
    wins: int
    draws: int
    losses: int

    @property
    def games(self) -> int:
        return self.wins + self.draws + self.losses


@dataclass(frozen=True, kw_only=True)
class Rating:
    """A player's strength with its 95 % interval, in points, and all its games."""

    player: str
    rating: float
    low: float
    high: float
    wins: int
    draws: int
    losses: int


def rate(players: Sequence[str], results: Sequence[PairResult]) -> list[Rating]:
    """Strongest first. Players without a game have the mean, with a wide interval."""
    number = {player: index for index, player in enumerate(players)}
    won = np.zeros((len(players), len(players)))
    record = np.zeros((len(players), 3), np.int64)
    for result in results:
        a, b = number[result.first], number[result.second]
        won[a, b] += result.wins + 0.5 * result.draws
        won[b, a] += result.losses + 0.5 * result.draws
        record[a] += (result.wins, result.draws, result.losses)
        record[b] += (result.losses, result.draws, result.wins)
    strengths, deviations = _most_probable(won)
    found = []
    for player, index in number.items():
        rating = MEAN_RATING + ELO_PER_LOGIT * float(strengths[index])
        margin = Z_95 * ELO_PER_LOGIT * float(deviations[index])
        wins, draws, losses = (int(count) for count in record[index])
        found.append(
            Rating(
                player=player,
                rating=rating,
                low=rating - margin,
                high=rating + margin,
                wins=wins,
                draws=draws,
                losses=losses,
            )
        )
    return sorted(found, key=lambda one: (-one.rating, number[one.player]))


def _most_probable(won: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`won` [players, players]: games that the row has won against the column. Strengths and their standard deviations
    relative to the mean, in logits, by Newton's method on a concave function."""
    count = len(won)
    games = won + won.T
    strengths = np.zeros(count)
    centre = np.eye(count) - 1.0 / max(1, count)
    curvature = np.eye(count) / PRIOR_STD**2
    for _ in range(_MOST_STEPS):
        expected = 1.0 / (1.0 + np.exp(strengths[None, :] - strengths[:, None]))
        gradient = won.sum(1) - (games * expected).sum(1) - strengths / PRIOR_STD**2
        weight = games * expected * (1.0 - expected)
        curvature = np.diag(weight.sum(1)) - weight + np.eye(count) / PRIOR_STD**2
        step = np.linalg.solve(curvature, gradient)
        strengths = strengths + np.clip(step, -2.0, 2.0)
        if np.abs(step).max(initial=0.0) < 1e-9:
            break
    spread = centre @ np.linalg.inv(curvature) @ centre
    return centre @ strengths, np.sqrt(np.maximum(np.diag(spread), 0.0))


def win_share(wins: int, draws: int, losses: int) -> tuple[float, float, float]:
    """Share of the games that were won, a draw as half a win, with its 95 % interval (Wilson 1927); 0, 0 and 1 where
    there was no game."""
    games = wins + draws + losses
    if not games:
        return 0.0, 0.0, 1.0
    share = (wins + 0.5 * draws) / games
    scale = 1.0 + Z_95**2 / games
    middle = (share + Z_95**2 / (2 * games)) / scale
    margin = Z_95 * math.sqrt(share * (1 - share) / games + Z_95**2 / (4 * games**2)) / scale
    return share, max(0.0, middle - margin), min(1.0, middle + margin)
