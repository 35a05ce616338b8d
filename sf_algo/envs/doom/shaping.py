"""Rewards beyond the scenario's own, from changes of the engine's game variables.

Shape letters: D variables that have a reward per unit of change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUM_WEAPONS = 8
_HELD_STEPS = 5
_WEIGHT_OF_SLOT = {3: 5.0, 4: 5.0, 5: 5.0, 6: 10.0, 7: 10.0}


@dataclass(frozen=True, kw_only=True)
class RewardScheme:
    """`delta`: variable -> (reward per unit gained, reward per unit lost). `caps` bound the gain of one step.

    `held_weapon`: reward of a step in which that weapon slot, with ammunition, has been selected for 5 steps
    in a row: early in training an agent that keeps changing weapons never gets to shoot.
    """

    delta: Mapping[str, tuple[float, float]]
    held_weapon: Mapping[int, float]
    caps: Mapping[str, float]


def _weapon_deltas() -> dict[str, tuple[float, float]]:
    rewards: dict[str, tuple[float, float]] = {}
    for slot in range(NUM_WEAPONS):
        weight = _WEIGHT_OF_SLOT.get(slot, 1.0)
        rewards[f"WEAPON{slot}"] = (0.02 * weight, -0.01 * weight)
        rewards[f"AMMO{slot}"] = (0.0002 * weight, -0.0001 * weight)
    return rewards


BOTS_SCHEME = RewardScheme(
    delta=MappingProxyType(
        {
            "FRAGCOUNT": (1.0, -1.5),
            "DEATHCOUNT": (-0.75, 0.75),
            "HITCOUNT": (0.01, -0.01),
            "DAMAGECOUNT": (0.003, -0.003),
            "HEALTH": (0.005, -0.003),
            "ARMOR": (0.005, -0.001),
            **_weapon_deltas(),
        }
    ),
    held_weapon=MappingProxyType({slot: 0.0002 * _WEIGHT_OF_SLOT.get(slot, 1.0) for slot in range(NUM_WEAPONS)}),
    caps=MappingProxyType({"DAMAGECOUNT": 200.0, "HITCOUNT": 5.0}),
)
"""Matches against bots."""

BATTLE_SCHEME = BOTS_SCHEME
"""The battle maps: of its variables they only have HEALTH and the selected weapon."""

DEATHMATCH_SCHEME = replace(
    BOTS_SCHEME,
    delta=MappingProxyType(
        {
            **BOTS_SCHEME.delta,
            "FRAGCOUNT": (1.0, -0.001),
            "DEATHCOUNT": (-1.0, 1.0),
            "HITCOUNT": (0.0, 0.0),
            "DAMAGECOUNT": (0.01, -0.01),
            "HEALTH": (0.01, -0.01),
        }
    ),
)
"""Self-play: what one player gains another one loses."""


class Shaper:
    """Computes the shaping reward of each step of one player from the game variables [V] after it."""

    def __init__(self, scheme: RewardScheme, variables: Sequence[str]) -> None:
        """`variables` names the entries of the arrays to come; rewards of variables not among them lapse."""
        index = {name: i for i, name in enumerate(variables)}
        present = [name for name in scheme.delta if name in index]
        self._present = present
        self._columns_D = np.array([index[name] for name in present], np.intp)
        self._gain_D = np.array([scheme.delta[name][0] for name in present])
        self._loss_D = np.array([scheme.delta[name][1] for name in present])
        self._cap_D = np.array([scheme.caps.get(name, np.inf) for name in present])
        self._held_weapon = dict(scheme.held_weapon)
        self._health = present.index("HEALTH") if "HEALTH" in present else None
        self._weapon = index.get("SELECTED_WEAPON")
        self._ammo = index.get("SELECTED_WEAPON_AMMO")
        self._dead = index.get("DEAD")
        self._recent_weapons: deque[int] = deque(maxlen=_HELD_STEPS)
        self._previous_D = np.zeros(len(present))
        self._was_dead = True

    def values(self) -> dict[str, dict[str, Any]]:
        """The numbers that it computes with: per unit gained and lost of each variable, and for held weapons."""
        gains = zip(self._present, self._gain_D.tolist(), self._loss_D.tolist(), strict=True)
        found: dict[str, dict[str, Any]] = {"delta": {name: {"gain": gain, "loss": loss} for name, gain, loss in gains}}
        if self._weapon is not None and self._ammo is not None:
            found["held_weapon"] = {str(slot): value for slot, value in self._held_weapon.items()}
        return found

    def set_values(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Computes with others from now on; all of them, as in `values`."""
        self._gain_D = np.array([values["delta"][name]["gain"] for name in self._present])
        self._loss_D = np.array([values["delta"][name]["loss"] for name in self._present])
        self._held_weapon = {int(slot): value for slot, value in values.get("held_weapon", {}).items()}

    def reset(self, variables: NDArray[np.float64] | None = None) -> None:
        """Begin an episode with these variables: its first step counts as one just after a respawn."""
        self._recent_weapons.clear()
        if variables is not None:
            self._previous_D = self._values(variables)
        self._was_dead = True

    def step(self, variables: NDArray[np.float64], *, ended: bool) -> float:
        """The shaping reward; 0 on the last step of an episode and on the first after a respawn."""
        values_D = self._values(variables)
        weapon = 0 if self._weapon is None else int(max(0.0, variables[self._weapon]))
        self._recent_weapons.append(weapon)
        is_dead = self._dead is not None and variables[self._dead] != 0
        reward = 0.0
        if not ended and (is_dead or not self._was_dead):
            reward = self._delta_reward(values_D) + self._held_weapon_reward(weapon, variables)
        self._previous_D = values_D
        self._was_dead = is_dead
        return reward

    def _values(self, variables: NDArray[np.float64]) -> NDArray[np.float64]:
        """Those that are rewarded [D]."""
        values_D = variables[self._columns_D]
        if self._health is not None and values_D[self._health] < 0.0:
            values_D[self._health] = 0.0  # who is telefragged has a million less, and is no deader for it
        return values_D

    def _delta_reward(self, values_D: NDArray[np.float64]) -> float:
        delta_D = np.minimum(values_D - self._previous_D, self._cap_D)
        return float(np.maximum(delta_D, 0.0) @ self._gain_D - np.minimum(delta_D, 0.0) @ self._loss_D)

    def _held_weapon_reward(self, weapon: int, variables: NDArray[np.float64]) -> float:
        if self._ammo is None or variables[self._ammo] <= 0:
            return 0.0
        if len(self._recent_weapons) < _HELD_STEPS or any(w != weapon for w in self._recent_weapons):
            return 0.0
        return self._held_weapon.get(weapon, 0.0)
