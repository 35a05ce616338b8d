"""Built-in opponents: how good they are, and how that follows the agents' success."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from sf_algo.envs.doom.match import MAX_PLAYERS

START_DIFFICULTY = 20
MAX_DIFFICULTY = 150
"""Beyond 100 the bots cannot get better, so it takes lost matches until they become worse."""
_STEP = 10
_SPREAD = 10.0
_SKILL_STEP = 5
_BEST_SKILL = 100


class BotDifficulty:
    """Rises after a match that an agent has won, falls after one that no agent has."""

    def __init__(self, start: int | None) -> None:
        """`start` None: the usual one."""
        self.value = START_DIFFICULTY if start is None else start

    def match_ended(self, *, agent_won: bool) -> None:
        self.value = min(MAX_DIFFICULTY, max(0, self.value + (_STEP if agent_won else -_STEP)))

    def draw(self, bots: int, rng: np.random.Generator) -> list[str]:
        """Names of that many bots of about this difficulty, as in `bots_text`."""
        skills = np.clip(rng.normal(self.value, _SPREAD, bots), 0, _BEST_SKILL)
        return [_name(_SKILL_STEP * round(skill / _SKILL_STEP), b) for b, skill in enumerate(skills.tolist())]


def _name(skill: int, bot: int) -> str:
    return f"bot{bot}_{skill:03d}"


def bots_text() -> str:
    """The engine's list of bots: for every skill as many as may play, for the engine lets none play twice. The skill
    counts for aim, judgement, reaction and caution alike."""
    entry = (
        "{{\n    name {name}\n    aiming {s}\n    perfection {s}\n    reaction {s}\n    isp {s}\n    skin base\n}}\n"
    )
    skills = range(0, _BEST_SKILL + 1, _SKILL_STEP)
    return "".join(entry.format(name=_name(s, bot), s=s) for s in skills for bot in range(MAX_PLAYERS))


@contextmanager
def bots_file() -> Iterator[str]:
    """A path with that list for engines that start inside the context. It lies in memory, so nothing is left over."""
    descriptor = os.memfd_create("doom_bots", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, bots_text().encode())
        yield f"/proc/{os.getpid()}/fd/{descriptor}"
    finally:
        os.close(descriptor)
