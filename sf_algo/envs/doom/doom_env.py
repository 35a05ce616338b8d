"""A single-player VizDoom scenario behind the `Env` protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf_algo.envs.doom.actions import action_spec, button_mapping, groups_of_buttons, num_buttons
from sf_algo.envs.doom.engine import DoomEngine
from sf_algo.envs.doom.measurements import MEASUREMENTS, MEASUREMENTS_SPEC, Measurements
from sf_algo.envs.doom.scenarios import DoomScenario
from sf_algo.envs.doom.screen import plane_sampler
from sf_algo.envs.doom.shaping import Shaper
from sf_algo.envs.spec import PLAIN_OBS, EnvSpec, ObsRow, ObsSpec, StepResult
from sf_algo.errors import EnvError
from sf_algo.own.shaping import flatten

_CARRIED_OVER = ("DEATHCOUNT", "HITCOUNT", "DAMAGECOUNT")
"""The engine does not set these back to 0 when an episode begins."""


class DoomEnv:
    """One player in one engine. The engine starts with the first reset, so asking for `spec` costs nothing.

    Rewards are the scenario's (times `reward_scale`) plus shaping. The time limit is ours, not the engine's:
    a truncated episode ends with a real final observation. The episode's statistics hold `true_reward`, the
    sum of the scenario's own unscaled rewards.
    """

    def __init__(
        self,
        scenario: DoomScenario,
        engine: DoomEngine,
        *,
        frameskip: int,
        out_hw: tuple[int, int],
        record_to: Path | None = None,
    ) -> None:
        groups = groups_of_buttons(engine.buttons) if scenario.groups is None else scenario.groups
        if num_buttons(groups) != len(engine.buttons):
            raise EnvError(
                f"{scenario.name}: {scenario.cfg} has {len(engine.buttons)} available_buttons, but the "
                f"actions press {num_buttons(groups)}; correct the file"
            )
        self._scenario = scenario
        self._engine = engine
        self._frameskip = frameskip
        self._record_to = record_to
        self._buttons = button_mapping(groups)
        channels, *screen_hw = engine.screen_shape
        self._sample_planes = plane_sampler(screen_hw=(screen_hw[0], screen_hw[1]), out_hw=out_hw)
        self._measurements = Measurements(engine.variables) if scenario.measurements else None
        self._shaper = Shaper(scenario.shaping, engine.variables) if scenario.shaping else None
        self.spec = EnvSpec(
            obs={
                PLAIN_OBS: ObsSpec(shape=(channels, *out_hw), dtype=np.dtype(np.uint8)),
                **({MEASUREMENTS: MEASUREMENTS_SPEC} if scenario.measurements else {}),
            },
            actions=action_spec(groups),
            frameskip=frameskip,
            shaping=flatten(self.shaping()),
        )
        limits = [limit for limit in (engine.frame_limit, scenario.frame_limit) if limit]
        self._frame_limit = min(limits, default=1 << 62)
        self._carried = [i for i, name in enumerate(engine.variables) if name in _CARRIED_OVER]
        self._health = engine.variables.index("HEALTH") if scenario.health_bonus else None
        self._rng = np.random.default_rng()
        self._episodes = 0
        self._frames_left = 0
        self._true_reward = 0.0
        self._screen = np.zeros(engine.screen_shape, np.uint8)
        self._variables = np.zeros(len(engine.variables))
        self._baseline = np.zeros(len(self._carried))
        self._rewards = np.zeros(1, np.float32)
        self._terminated = np.zeros(1, np.bool_)
        self._truncated = np.zeros(1, np.bool_)
        self._result = StepResult(self._rewards, self._terminated, self._truncated, np.ones(1, np.bool_), None)

    def reset(self, out: Sequence[ObsRow], *, seed: int | None = None) -> None:
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        if not self._engine.is_running:
            self._engine.start()
        self._engine.new_episode(int(self._rng.integers(1 << 32)), self._recording())
        self._episodes += 1
        self._frames_left = self._frame_limit
        self._true_reward = 0.0
        state = self._engine.observe()
        if state is None:
            raise EnvError(f"{self._scenario.name}: the episode was over before it began; correct {self._scenario.cfg}")
        self._screen, variables = state
        self._baseline = variables[self._carried]
        self._variables = self._since_reset(variables)
        if self._shaper:
            self._shaper.reset()
        self._write(out[0])

    def shaping(self) -> Mapping[str, Any]:
        """As `SupportsShaping`: what is added to the scenario's own rewards, per unit of change."""
        return self._shaper.values() if self._shaper else {}

    def set_shaping(self, agent: int, values: Mapping[str, Any]) -> None:
        """As `SupportsShaping`."""
        if self._shaper:
            self._shaper.set_values(values)

    def step(self, actions: NDArray[np.float32], out: Sequence[ObsRow]) -> StepResult:
        tics = min(self._frameskip, self._frames_left)
        raw_reward = self._engine.act(self._buttons(actions[0]), tics)
        state = self._engine.observe()
        self._frames_left -= tics
        self._true_reward += raw_reward
        truncated = state is not None and self._frames_left <= 0
        ended = truncated or state is None
        before = self._variables
        if state is None:  # the engine shows nothing after the end; nobody looks at it either
            self._screen = np.zeros_like(self._screen)
        else:
            self._screen, variables = state
            self._variables = self._since_reset(variables)
        self._write(out[0])
        self._rewards[0] = raw_reward * self._scenario.reward_scale + self._extra_reward(before, ended=ended)
        self._terminated[0] = state is None
        self._truncated[0] = truncated
        return self._result._replace(episode={"true_reward": self._true_reward}) if ended else self._result

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

    def _recording(self) -> Path | None:
        if self._record_to is None:
            return None
        self._record_to.mkdir(parents=True, exist_ok=True)
        return self._record_to.absolute() / f"e{self._episodes:03d}.lmp"

    def render(self) -> NDArray[np.uint8] | None:
        """The engine's screen [H, W, 3], larger than the observation."""
        return np.ascontiguousarray(self._screen.transpose(1, 2, 0))

    def close(self) -> None:
        self._engine.close()
