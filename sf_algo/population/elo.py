"""Ratings of players from the scores of their matches (Elo 1978): the more is expected of a player, the less a win
adds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

Player: TypeAlias = tuple[int, int]
"""A policy in training and NOBODY, or an opponent's policy and the member of the pool that it is."""

BEGINNER = 1000.0
STEP = 16.0
"""By how much one game can change a rating at most."""
SCALE = 400.0
"""A player whose rating is higher by this much is expected to win ten of eleven games."""


def expected(own: float, other: float) -> float:
    """Share of the games that a player is expected to win."""
    return float(1.0 / (1.0 + 10.0 ** ((other - own) / SCALE)))


def changes(ratings: Sequence[float], players: Sequence[Player], scores: Sequence[float]) -> list[float]:
    """By how much a match changes the rating of each agent's player. Every agent plays every agent of another player;
    a match of many agents counts as much as one of two."""
    changed = [0.0] * len(players)
    for a in range(len(players)):
        others = [b for b in range(len(players)) if players[b] != players[a]]
        for b in others:
            won = 0.5 * ((scores[a] > scores[b]) + (scores[a] >= scores[b]))
            changed[a] += STEP * (won - expected(ratings[a], ratings[b])) / (len(players) - 1)
    return changed
