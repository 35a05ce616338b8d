"""One player's side of an engine: what it observes, what it is rewarded for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf_algo.envs.doom.actions import action_spec, button_mapping, groups_of_buttons, num_buttons
from sf_algo.envs.doom.engine import DoomEngine
from sf_algo.envs.doom.measurements import MEASUREMENTS, MEASUREMENTS_SPEC, Measurements
from sf_algo.envs.doom.scenarios import DoomScenario
from sf_algo.envs.doom.screen import plane_sampler
from sf_algo.envs.doom.shaping import Shaper
from sf_algo.envs.spec import PLAIN_OBS, EnvSpec, ObsRow, ObsSpec
from sf_algo.errors import EnvError
from sf_algo.own.shaping import flatten

_CARRIED_OVER = ("DEATHCOUNT", "HITCOUNT", "DAMAGECOUNT")
"""The engine does not set these back to 0 when an episode begins."""

EngineState = tuple[NDArray[np.uint8], NDArray[np.float64]]
"""Screen [3, H, W] and game variables [V]."""


class Player:
    """Turns states of an engine into observations and rewards.

    Rewards are the scenario's (times `reward_scale`) plus shaping. `true_reward` is the sum of the scenario's own
    unscaled rewards of this episode.
    """

    def __init__(self, scenario: DoomScenario, engine: DoomEngine, *, out_hw: tuple[int, int]) -> None:
        """`engine` need not run: it is asked for its screen, buttons and variables only."""
        groups = groups_of_buttons(engine.buttons) if scenario.groups is None else scenario.groups
        if num_buttons(groups) != len(engine.buttons):
            raise EnvError(
                f"{scenario.name}: {scenario.cfg} has {len(engine.buttons)} available_buttons, but the "
                f"actions press {num_buttons(groups)}; correct the file"
            )
        self._scenario = scenario
        self.buttons = button_mapping(groups)
        self._actions = action_spec(groups)
        channels, *screen_hw = engine.screen_shape
        self._obs_shape = (channels, *out_hw)
        self._sample_planes = plane_sampler(screen_hw=(screen_hw[0], screen_hw[1]), out_hw=out_hw)
        self._measurements = Measurements(engine.variables) if scenario.measurements else None
        self._shaper = Shaper(scenario.shaping, engine.variables) if scenario.shaping else None
        self._index = {name: i for i, name in enumerate(engine.variables)}
        self._carried = [self._index[name] for name in engine.variables if name in _CARRIED_OVER]
        self._health = self._index["HEALTH"] if scenario.health_bonus else None
        self.true_reward = 0.0
        self._screen = np.zeros(engine.screen_shape, np.uint8)
        self._variables = np.zeros(len(engine.variables))
        self._baseline = np.zeros(len(self._carried))

    def spec(self, *, frameskip: int, agents: int = 1) -> EnvSpec:
        """Of an environment of such players."""
        return EnvSpec(
            obs={
                PLAIN_OBS: ObsSpec(shape=self._obs_shape, dtype=np.dtype(np.uint8)),
                **({MEASUREMENTS: MEASUREMENTS_SPEC} if self._measurements else {}),
            },
            actions=self._actions,
            num_agents=agents,
            frameskip=frameskip,
            shaping=flatten(self.shaping()),
        )

    def shaping(self) -> Mapping[str, Any]:
        """What is added to the scenario's own rewards, per unit of change."""
        return self._shaper.values() if self._shaper else {}

    def set_shaping(self, values: Mapping[str, Any]) -> None:
        """Other values from now on, all of them, as in `shaping`."""
        if self._shaper:
            self._shaper.set_values(values)

    def begin(self, state: EngineState | None, row: ObsRow) -> None:
        """Write the first observation of an episode."""
        if state is None:
            raise EnvError(f"{self._scenario.name}: the episode was over before it began; correct {self._scenario.cfg}")
        self._screen, variables = state
        self.true_reward = 0.0
        self._baseline = variables[self._carried]
        self._variables = self._since_reset(variables)
        if self._shaper:
            self._shaper.reset(self._variables)
        self._write(row)

    def step(self, state: EngineState | None, raw_reward: float, row: ObsRow, *, ended: bool) -> float:
        """Write the next observation; the reward. `state` None: the engine shows nothing after the end, and nobody
        looks at it either."""
        self.true_reward += raw_reward
        before = self._variables
        if state is None:
            self._screen = np.zeros_like(self._screen)
        else:
            self._screen, variables = state
            self._variables = self._since_reset(variables)
        self._write(row)
        return raw_reward * self._scenario.reward_scale + self._extra_reward(before, ended=ended)

    def count(self, name: str) -> float:
        """A game variable as of the last state, 0 where the scenario does not have it; what counts up counts from the
        start of the episode."""
        index = self._index.get(name)
        return 0.0 if index is None else float(self._variables[index])

    def _extra_reward(self, before: NDArray[np.float64], *, ended: bool) -> float:
        extra = self._shaper.step(self._variables, ended=ended) if self._shaper else 0.0
        if self._health is not None and not ended and self._variables[self._health] > before[self._health]:
            extra += self._scenario.health_bonus
        return extra

    def _since_reset(self, variables: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._carried:
            variables[self._carried] -= self._baseline
        return variables

    def _write(self, row: ObsRow) -> None:
        self._sample_planes(self._screen, row[PLAIN_OBS])
        if self._measurements:
            self._measurements.write(self._variables, row[MEASUREMENTS])

    def render(self) -> NDArray[np.uint8]:
        """The engine's screen [H, W, 3], larger than the observation."""
        return np.ascontiguousarray(self._screen.transpose(1, 2, 0))
