"""The 23 numbers that accompany the screen in environments where the agent has weapons and health."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sf_algo.envs.doom.shaping import NUM_WEAPONS
from sf_algo.envs.spec import ObsSpec

_AMMO = (1 / 15, 5.0)
_FIELDS: tuple[tuple[str, float, float], ...] = (
    ("SELECTED_WEAPON", 1.0, np.inf),
    ("SELECTED_WEAPON_AMMO", *_AMMO),
    ("HEALTH", 1 / 30, np.inf),
    ("ARMOR", 1 / 30, np.inf),
    ("USER2", 1 / 10, np.inf),
    ("ATTACK_READY", 1.0, np.inf),
    ("PLAYER_COUNT", 1 / 5, np.inf),
    *((f"WEAPON{slot}", 1.0, np.inf) for slot in range(NUM_WEAPONS)),
    *((f"AMMO{slot}", *_AMMO) for slot in range(NUM_WEAPONS)),
)
"""Game variable, factor, largest value after scaling (the smallest is 0). USER2: kills on battle maps."""

MEASUREMENTS = "measurements"
MEASUREMENTS_SPEC = ObsSpec(shape=(len(_FIELDS),), dtype=np.dtype(np.float32))


class Measurements:
    """Scales game variables; one that the scenario does not have counts as 0 (the number of players as 1)."""

    def __init__(self, variables: Sequence[str]) -> None:
        index = {name: i for i, name in enumerate(variables)}
        zero, one = len(variables), len(variables) + 1
        self._padded = np.zeros(len(variables) + 2)
        self._padded[one] = 1.0
        self._columns = np.array(
            [index.get(name, one if name == "PLAYER_COUNT" else zero) for name, _, _ in _FIELDS], np.intp
        )
        self._factors = np.array([factor for _, factor, _ in _FIELDS])
        self._highest = np.array([highest for _, _, highest in _FIELDS])

    def write(self, variables: NDArray[np.float64], out: NDArray[np.float32]) -> None:
        """`variables` [V] as named at construction, `out` [23]."""
        self._padded[:-2] = variables
        scaled = self._padded[self._columns] * self._factors
        out[...] = np.minimum(np.maximum(scaled, 0.0), self._highest)
