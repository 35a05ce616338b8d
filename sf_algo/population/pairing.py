"""Who meets whom. Pure."""

from __future__ import annotations

from collections.abc import Sequence

ALL_PAIRS_UP_TO = 12
"""Players among whom everybody meets everybody; of more, each meets some near to it and few far away."""


def pairs_of(lines: Sequence[Sequence[str]], *, all_pairs: bool = False) -> list[tuple[str, str]]:
    """Pairs among players. `lines`: for each policy its players in the order of their age.

    Few players meet all others. Of many, each meets those 1, 2, 4, 8, ... steps older in its own line, and in every
    other line the one that is as old: enough that all can be compared, for a number of pairs that grows like n log n.
    """
    players = [player for line in lines for player in line]
    if all_pairs or len(players) <= ALL_PAIRS_UP_TO:
        return [(a, b) for index, a in enumerate(players) for b in players[index + 1 :]]
    found: dict[tuple[str, str], None] = {}
    for line in lines:
        for index, player in enumerate(line):
            step = 1
            while index + step < len(line):
                found[player, line[index + step]] = None
                step *= 2
    for number, line in enumerate(lines):
        for other in lines[number + 1 :]:
            for index, player in enumerate(line):
                share = index / max(1, len(line) - 1)
                found[player, other[round(share * (len(other) - 1))]] = None
    return list(found)


def seating(players: Sequence[int], roles: Sequence[int], player_roles: Sequence[int | None], game: int) -> list[int]:
    """Who sits where in a game: for each seat (agent of the environment) a player, seats taken in turn, moved on by one
    from game to game.

    Args:
        players: numbers of those who play.
        roles: the role of each seat.
        player_roles: the role that each of `players` can play; None: any.
        game: number of the game.

    Raises:
        ValueError: nobody can play one of the roles; the message names it.
    """
    taken: dict[tuple[int, ...], int] = {}
    placed = []
    for role in roles:
        able = tuple(player for player, own in zip(players, player_roles, strict=True) if own in (None, role))
        if not able:
            raise ValueError(f"nobody plays role {role}")
        turn = taken[able] = taken.get(able, -1) + 1
        placed.append(able[(turn + game) % len(able)])
    return placed
