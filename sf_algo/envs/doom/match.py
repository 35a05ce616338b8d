"""What a match is: how many play, by which rules, how it came out. No engine is needed for any of this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

TICS_PER_MINUTE = 60 * 35
MAX_PLAYERS = 16
"""Of the engine, bots included."""

_DEATHMATCH = (
    "-deathmatch +sv_forcerespawn 1 +sv_noautoaim 1 +sv_respawnprotect 1 +sv_spawnfarthest 1 "
    "+sv_nocrouch 1 +sv_nojump 1 +sv_nofreelook 1 +sv_noexit 1"
)

# Whoever starts an engine ends it when the others do not come in time. One that gave up by itself would take its
# player's process along: vizdoom crashes over errors of an engine that is starting.
_PATIENCE = "+viz_connect_timeout 100000"


@dataclass(frozen=True, kw_only=True)
class MatchRules:
    """`agents` and `humans` have an engine each, `bots` live in all of them."""

    agents: int = 1
    bots: int = 0
    humans: int = 0
    respawn_delay_s: int = 0
    minutes: float | None = 4.0
    """None: as long as the scenario file says."""
    true_reward: Literal["scenario", "frags", "win"] = "scenario"
    """`win`: 1 for an outright win, else 0."""
    deathmatch: bool = True
    """False: the rules are in the scenario file's `game_args`."""

    @property
    def engines(self) -> int:
        """How many take part in the network game."""
        return self.agents + self.humans

    @property
    def frame_limit(self) -> int | None:
        """Length of a match in tics."""
        return None if self.minutes is None else max(1, round(self.minutes * TICS_PER_MINUTE))

    def host_args(self, port: int) -> str:
        """Arguments of the engine that holds the match; `port` is of no account where it is alone."""
        address = f"-host {self.engines}" + (f" -port {port} {_PATIENCE}" if self.engines > 1 else "")
        return f"{address} {self.rule_args()}"

    def join_args(self, port: int) -> str:
        """Arguments of the other engines; the host tells them the rules."""
        return f"-join 127.0.0.1 -port {port} {_PATIENCE}"

    def rule_args(self) -> str:
        """By what rules is played."""
        return f"{_DEATHMATCH} +viz_respawn_delay {self.respawn_delay_s}" if self.deathmatch else ""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How one player stands among all."""

    place: int
    """1: nobody has more frags."""
    won: bool
    """Everybody else has fewer frags."""
    leader_gap: float
    """Frags ahead of the best of the others; negative: behind."""


def standing(frags_P: Sequence[float], player: int) -> Standing:
    """Of one of P players, bots included, by their frags. Alone, a player has won nothing."""
    own = frags_P[player]
    others = [frags for p, frags in enumerate(frags_P) if p != player]
    best = max(others, default=own)
    return Standing(
        place=1 + sum(frags > own for frags in others),
        won=bool(others) and own > best,
        leader_gap=float(own - best),
    )


class Tally:
    """Kills and deaths of A agents over a match, step by step."""

    def __init__(self, agents: int) -> None:
        self.kills_A = np.zeros(agents)
        self._frags_A = np.zeros(agents)

    def reset(self) -> None:
        """Begin a match."""
        self.kills_A[:] = self._frags_A[:] = 0.0

    def step(self, frags_A: NDArray[np.float64]) -> None:
        """Frags so far: they fall with suicides, which are no kills."""
        self.kills_A += np.maximum(frags_A - self._frags_A, 0.0)
        self._frags_A[:] = frags_A
