"""Fake environments: small, deterministic, and broken on purpose. Usable as
`--env=sf_algo.testing:make_memory`.

They serve our own tests and the tests of users who bring their own models, runners or schedules. What breaks,
and when, is read from environment variables, so that a training started as a command can be broken, too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sf_algo.envs.spec import (
    PLAIN_OBS,
    ActionSpec,
    Discrete,
    Env,
    EnvPlacement,
    EnvSpec,
    EpisodeStats,
    ObsRow,
    ObsSpec,
    StepResult,
)

STEP_SECONDS_VARIABLE = "SF_FAKE_STEP_SECONDS"
"""How long a step of `make_slow` takes (s)."""
START_SECONDS_VARIABLE = "SF_FAKE_START_SECONDS"
"""How long the first reset of `make_slow` takes (s)."""
BREAK_AFTER_VARIABLE = "SF_FAKE_BREAK_AFTER_STEPS"
"""After how many steps of one environment `make_crashing` raises and `make_hanging` stops answering."""
BREAK_ONCE_VARIABLE = "SF_FAKE_BREAK_ONCE_FILE"
"""Where set, only one environment breaks: the one that manages to create this file."""


class FakeEnv:
    """Base of the fakes: A agents, vectors of float32 as observations, one discrete action."""

    def __init__(self, *, obs_size: int, num_actions: int, num_agents: int = 1) -> None:
        obs = {PLAIN_OBS: ObsSpec(shape=(obs_size,), dtype=np.dtype(np.float32))}
        self.spec = EnvSpec(obs=obs, actions=ActionSpec((Discrete(num_actions),)), num_agents=num_agents)
        self._active = np.ones(num_agents, np.bool_)
        self.closed = False

    def _result(
        self,
        reward: float | Sequence[float],
        *,
        terminated: bool = False,
        truncated: bool = False,
        stats: EpisodeStats | None = None,
    ) -> StepResult:
        agents = self.spec.num_agents
        ended = terminated or truncated
        return StepResult(
            np.broadcast_to(np.asarray(reward, np.float32), agents),
            np.full(agents, terminated),
            np.full(agents, truncated),
            self._active,
            (stats or {}) if ended else None,
        )

    def close(self) -> None:
        self.closed = True


class CountingEnv(FakeEnv):
    """Observation: [environment, episode, step, last action]. The reward is the action.

    Episode k lasts `length` steps; even ones terminate, odd ones are truncated. Nothing is random: what a
    slot must hold can be written down.
    """

    def __init__(self, *, env_index: int = 0, length: int = 3, num_agents: int = 1) -> None:
        super().__init__(obs_size=4, num_actions=10, num_agents=num_agents)
        self._env_index = env_index
        self._length = length
        self._episode = -1
        self._step = 0

    def reset(self, out: Sequence[ObsRow], *, seed: int | None = None) -> None:
        self._episode += 1
        self._step = 0
        self._write(out, np.zeros(len(out), np.float32))

    def step(self, actions: NDArray[np.float32], out: Sequence[ObsRow]) -> StepResult:
        self._step += 1
        self._write(out, actions[:, 0])
        ended = self._step == self._length
        odd = self._episode % 2 == 1
        return self._result(
            actions[:, 0].tolist(),
            terminated=ended and not odd,
            truncated=ended and odd,
            stats={"episode_number": float(self._episode)},
        )

    def _write(self, out: Sequence[ObsRow], actions: NDArray[np.float32]) -> None:
        for row, action in zip(out, actions, strict=True):
            row[PLAIN_OBS][:] = (self._env_index, self._episode, self._step, action)


class MemoryEnv(FakeEnv):
    """A cue is shown in the first step, `delay` blank steps follow, then the answer is asked for.

    Observation: [cue 0, cue 1, asked]. +1 for answering with the cue, -1 otherwise, 0 in between: without
    memory the best policy earns 0 on average, with memory 1.
    """

    def __init__(self, *, delay: int = 4, seed: int = 0) -> None:
        super().__init__(obs_size=3, num_actions=2)
        self._delay = delay
        self._rng = np.random.default_rng(seed)
        self._cue = 0
        self._step = 0

    def reset(self, out: Sequence[ObsRow], *, seed: int | None = None) -> None:
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._cue = int(self._rng.integers(2))
        self._step = 0
        view = out[0][PLAIN_OBS]
        view[:] = 0.0
        view[self._cue] = 1.0

    def step(self, actions: NDArray[np.float32], out: Sequence[ObsRow]) -> StepResult:
        asked = self._step == self._delay + 1
        self._step += 1
        out[0][PLAIN_OBS][:] = (0.0, 0.0, self._step == self._delay + 1)
        if not asked:
            return self._result(0.0)
        right = int(actions[0, 0]) == self._cue
        return self._result(1.0 if right else -1.0, terminated=True, stats={"is_success": float(right)})


class SlowEnv(CountingEnv):
    """A CountingEnv whose start and steps take time."""

    def __init__(self, *, step_s: float, start_s: float = 0.0, env_index: int = 0) -> None:
        super().__init__(env_index=env_index, length=50)
        self._step_s = step_s
        self._start_s = start_s

    def reset(self, out: Sequence[ObsRow], *, seed: int | None = None) -> None:
        time.sleep(self._start_s)
        self._start_s = 0.0
        super().reset(out, seed=seed)

    def step(self, actions: NDArray[np.float32], out: Sequence[ObsRow]) -> StepResult:
        time.sleep(self._step_s)
        return super().step(actions, out)


class BrokenEnv(CountingEnv):
    """A CountingEnv that raises, or never answers again, after `break_after` steps."""

    def __init__(self, *, break_after: int, hangs: bool, once_file: Path | None = None, env_index: int = 0) -> None:
        super().__init__(env_index=env_index, length=50)
        self._steps_left = break_after
        self._hangs = hangs
        self._once_file = once_file

    def step(self, actions: NDArray[np.float32], out: Sequence[ObsRow]) -> StepResult:
        self._steps_left -= 1
        if self._steps_left < 0 and self._chosen():
            if self._hangs:
                while True:
                    time.sleep(60)
            raise RuntimeError("this environment breaks on purpose")
        return super().step(actions, out)

    def _chosen(self) -> bool:
        if self._once_file is None:
            return True
        try:
            self._once_file.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def make_counting(placement: EnvPlacement) -> Env:
    """`--env=sf_algo.testing:make_counting`"""
    return CountingEnv(env_index=placement.env_index, length=10)


def make_memory(placement: EnvPlacement) -> Env:
    """`--env=sf_algo.testing:make_memory`"""
    return MemoryEnv(seed=placement.env_index)


def make_slow(placement: EnvPlacement) -> Env:
    """`--env=sf_algo.testing:make_slow`; see STEP_SECONDS_VARIABLE and START_SECONDS_VARIABLE."""
    return SlowEnv(
        step_s=float(os.environ.get(STEP_SECONDS_VARIABLE, "0.01")),
        start_s=float(os.environ.get(START_SECONDS_VARIABLE, "0")),
        env_index=placement.env_index,
    )


def make_crashing(placement: EnvPlacement) -> Env:
    """`--env=sf_algo.testing:make_crashing`; see BREAK_AFTER_VARIABLE and BREAK_ONCE_VARIABLE."""
    return _broken(placement, hangs=False)


def make_hanging(placement: EnvPlacement) -> Env:
    """`--env=sf_algo.testing:make_hanging`; see BREAK_AFTER_VARIABLE and BREAK_ONCE_VARIABLE."""
    return _broken(placement, hangs=True)


def _broken(placement: EnvPlacement, *, hangs: bool) -> Env:
    once = os.environ.get(BREAK_ONCE_VARIABLE)
    return BrokenEnv(
        break_after=int(os.environ.get(BREAK_AFTER_VARIABLE, "100")),
        hangs=hangs,
        once_file=Path(once) if once else None,
        env_index=placement.env_index,
    )
