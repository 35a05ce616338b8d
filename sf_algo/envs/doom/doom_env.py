"""A single-player VizDoom scenario behind the `Env` protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf_algo.envs.doom.engine import DoomEngine
from sf_algo.envs.doom.player import Player
from sf_algo.envs.doom.scenarios import DoomScenario
from sf_algo.envs.spec import ObsRow, StepResult


class DoomEnv:
    """One player in one engine. The engine starts with the first reset, so asking for `spec` costs nothing.

    The time limit is ours, not the engine's: a truncated episode ends with a real final observation. The episode's
    statistics hold `true_reward`.
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
        self._engine = engine
        self._frameskip = frameskip
        self._record_to = record_to
        self._player = Player(scenario, engine, out_hw=out_hw)
        self.spec = self._player.spec(frameskip=frameskip)
        limits = [limit for limit in (engine.frame_limit, scenario.frame_limit) if limit]
        self._frame_limit = min(limits, default=1 << 62)
        self._rng = np.random.default_rng()
        self._episodes = 0
        self._frames_left = 0
        self._result = StepResult.blank(1)

    def reset(self, out: Sequence[ObsRow], *, seed: int | None = None) -> None:
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        if not self._engine.is_running:
            self._engine.start()
        self._engine.new_episode(int(self._rng.integers(1 << 32)), self._recording())
        self._episodes += 1
        self._frames_left = self._frame_limit
        self._player.begin(self._engine.observe(), out[0])

    def shaping(self) -> Mapping[str, Any]:
        """As `SupportsShaping`: what is added to the scenario's own rewards, per unit of change."""
        return self._player.shaping()

    def set_shaping(self, agent: int, values: Mapping[str, Any]) -> None:
        """As `SupportsShaping`."""
        self._player.set_shaping(values)

    def step(self, actions: NDArray[np.float32], out: Sequence[ObsRow]) -> StepResult:
        tics = min(self._frameskip, self._frames_left)
        raw_reward = self._engine.act(self._player.buttons(actions[0]), tics)
        state = self._engine.observe()
        self._frames_left -= tics
        truncated = state is not None and self._frames_left <= 0
        ended = truncated or state is None
        self._result.rewards[0] = self._player.step(state, raw_reward, out[0], ended=ended)
        self._result.terminated[0] = state is None
        self._result.truncated[0] = truncated
        return self._result._replace(episode={"true_reward": self._player.true_reward}) if ended else self._result

    def _recording(self) -> Path | None:
        if self._record_to is None:
            return None
        self._record_to.mkdir(parents=True, exist_ok=True)
        return self._record_to.absolute() / f"e{self._episodes:03d}.lmp"

    def render(self) -> NDArray[np.uint8] | None:
        """The engine's screen [H, W, 3], larger than the observation."""
        return self._player.render()

    def close(self) -> None:
        self._engine.close()
