"""One agent in a level of DeepMind Lab, behind the `Env` protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sf_algo.envs.dmlab.engine import LabEngine, Observation
from sf_algo.envs.dmlab.instructions import INSTRUCTIONS, INSTRUCTIONS_SPEC, write_tokens
from sf_algo.envs.dmlab.level_cache import LevelCache
from sf_algo.envs.dmlab.level_seeds import SEED_LIMIT
from sf_algo.envs.dmlab.levels import Task
from sf_algo.envs.dmlab.scores import RAW
from sf_algo.envs.dmlab.shaping import shaped_reward
from sf_algo.envs.spec import PLAIN_OBS, ActionSpec, Discrete, EnvSpec, ObsRow, ObsSpec, StepResult

WARM_UP_SEED = 1
"""The first episode of an engine differs from later ones of the same seed, so one is thrown away. Always the same one:
its map is in the cache."""
BENCHMARK_SEED = 42

SeedSource = Literal["reset", "any", "cache", "fixed"]
"""Where the seed of an episode comes from: the one given to `reset`, so that the episode is reproducible; the same
without that promise, which spares an episode at the start; unused maps of the cache, then fresh ones; always the same
one (for measurements of speed)."""


class DmlabEnv:
    """The engine starts with the first reset, so asking for `spec` costs nothing.

    Rewards are shaped (`shaping.shaped_reward`); the episode's statistics hold the sum of the level's own as
    `true_reward` and under the level's name. An episode whose time is up is truncated: the agent cannot see the clock.
    The engine shows nothing after the end, so the last observation is written once more.
    """

    def __init__(
        self,
        task: Task,
        engine: LabEngine,
        *,
        actions: NDArray[np.intc],
        frameskip: int,
        size: tuple[int, int],
        with_instructions: bool,
        cache: LevelCache | None,
        seeds: SeedSource,
    ) -> None:
        """`actions` [choices, 7], `size` (height, width) of the observation."""
        self.task = task
        self._engine = engine
        self._cache = cache
        self._seeds = seeds
        self._actions = actions
        self._frameskip = frameskip
        obs = {PLAIN_OBS: ObsSpec(shape=(3, *size), dtype=np.dtype(np.uint8))}
        if with_instructions:
            obs[INSTRUCTIONS] = INSTRUCTIONS_SPEC
        self.spec = EnvSpec(obs=obs, actions=ActionSpec((Discrete(len(actions)),)), frameskip=frameskip)
        self._with_instructions = with_instructions
        self._rng = np.random.default_rng()
        self._seen = Observation(frame=np.zeros((*size, 3), np.uint8))
        self._true_reward = 0.0
        self._result = StepResult.blank(1)

    def reset(self, out: Sequence[ObsRow], *, seed: int | None = None) -> None:
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        if not self._engine.is_open:
            self._engine.start()
            if self._seeds == "reset":
                self._warm_up()
        self._begin(self._next_seed())
        self._true_reward = 0.0
        self._write(out[0])

    def step(self, actions: NDArray[np.float32], out: Sequence[ObsRow]) -> StepResult:
        frames_left = self._seen.frames_left
        raw, seen = self._engine.step(self._actions[int(actions[0, 0])], self._frameskip)
        self._true_reward += raw
        if seen is not None:
            self._seen = seen
        self._write(out[0])
        time_is_up = frames_left <= self._frameskip
        self._result.rewards[0] = shaped_reward(raw)
        self._result.terminated[0] = seen is None and not time_is_up
        self._result.truncated[0] = seen is None and time_is_up
        if seen is not None:
            return self._result
        return self._result._replace(
            episode={"true_reward": self._true_reward, RAW + self.task.name: self._true_reward}
        )

    def render(self) -> NDArray[np.uint8]:
        """The frame [H, W, 3] as the policy sees it."""
        return self._seen.frame

    def close(self) -> None:
        self._engine.close()

    def _next_seed(self) -> int:
        if self._seeds == "fixed":
            return BENCHMARK_SEED
        if self._seeds == "cache" and self._cache is not None:
            return self._cache.next_seed(self._fresh_seed)
        return self._fresh_seed()

    def _fresh_seed(self) -> int:
        return int(self._rng.integers(SEED_LIMIT))

    def _begin(self, seed: int) -> None:
        if self._cache is not None:
            self._cache.begin_episode()
        self._seen = self._engine.reset(seed)
        if self._cache is not None and self._seeds == "cache":
            self._cache.end_of_reset(seed)

    def _warm_up(self) -> None:
        self._begin(WARM_UP_SEED)
        self._engine.step(self._actions[0], 1)

    def _write(self, row: ObsRow) -> None:
        frame, pixels = self._seen.frame, row[PLAIN_OBS]
        for plane in range(3):
            pixels[plane] = frame[:, :, plane]
        if self._with_instructions:
            write_tokens(self._seen.words, row[INSTRUCTIONS])
