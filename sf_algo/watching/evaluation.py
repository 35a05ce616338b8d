"""Plays a trained policy: for watching, for videos and for numbers.

Shape letters: A agents of the environment, S numbers of recurrent state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sf_algo.envs.spec import Env, EpisodeStats, SupportsRender, agent_episode_stats, goes_on
from sf_algo.model.actor import Actor
from sf_algo.rollout.episodes import mix_seed

Frame = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class EpisodeResult:
    """One episode of one agent."""

    episode: int
    agent: int
    reward: float
    num_frames: int
    stats: Mapping[str, float]

    def metrics(self) -> dict[str, float]:
        """Every number worth averaging; `true_reward` is the reward where the environment has no other."""
        own = {"reward": self.reward, "len": float(self.num_frames), "true_reward": self.reward}
        return {**own, **self.stats}


@dataclass(frozen=True, kw_only=True)
class PlayLimits:
    """When to end and how fast to go."""

    max_episodes: int
    max_frames: int
    frames_per_second: float
    """0: as fast as possible."""


class Player:
    """One environment and the policy that acts in it; the same seed plays the same episodes. A game of several
    lives is one episode."""

    def __init__(self, env: Env, actor: Actor, *, rnn_state_size: int, seed: int) -> None:
        """`actor` acts on the CPU."""
        self._env = env
        self._actor = actor
        self._seed = seed
        spec = env.spec
        agents = spec.num_agents
        self._obs = {name: obs.zeros(agents) for name, obs in spec.obs.items()}
        self._tensors = {name: torch.from_numpy(array) for name, array in self._obs.items()}
        self._target = spec.targets(self._obs)
        self._states = torch.zeros(agents, rnn_state_size)
        self._rewards, self._steps = np.zeros(agents, np.float64), np.zeros(agents, np.int64)
        self.frames = 0

    def play(
        self,
        limits: PlayLimits,
        *,
        show: Callable[[Env], None] = lambda env: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Iterator[list[EpisodeResult]]:
        """Yields the results of each finished episode, one per agent. `show` is called after every step."""
        for episode in range(limits.max_episodes):
            results = self._episode(episode, limits, show, stopped)
            if results is None:
                return
            yield results

    def _episode(
        self, episode: int, limits: PlayLimits, show: Callable[[Env], None], stopped: Callable[[], bool]
    ) -> list[EpisodeResult] | None:
        """One per agent; where agents begin anew by themselves, of those that ended. None when it was cut short."""
        env, spec = self._env, self._env.spec
        if episode == 0 or not spec.autoreset:
            env.reset(self._target, seed=mix_seed(self._seed, 0, episode))
            self._states = torch.zeros_like(self._states)
            self._rewards[:], self._steps[:] = 0.0, 0
        playing = np.ones(spec.num_agents, np.bool_)
        pace = Pace(spec.frameskip / limits.frames_per_second if limits.frames_per_second else 0.0)
        show(env)
        while self.frames < limits.max_frames and not stopped():
            acted = self._actor.step(self._tensors, self._states)
            self._states = acted.rnn_states
            result = env.step(acted.actions.numpy(), self._target)
            self.frames += spec.frameskip
            self._rewards += result.rewards * playing
            self._steps += result.active & playing
            pace.wait()
            show(env)
            if (result.terminated[0] or result.truncated[0]) and goes_on(env):
                env.reset(self._target)
                self._states = torch.zeros_like(self._states)
                continue
            if result.restarted is not None:
                self._states[torch.from_numpy(result.restarted)] = 0.0
            ended = result.terminated | result.truncated
            playing &= ~ended
            if spec.autoreset and ended.any():
                return self._results(episode, np.flatnonzero(ended), result.episode)
            if not playing.any():
                return self._results(episode, np.arange(spec.num_agents), result.episode)
        return None

    def _results(self, episode: int, agents: NDArray[np.int64], stats: EpisodeStats | None) -> list[EpisodeResult]:
        found = [
            EpisodeResult(
                episode=episode,
                agent=agent,
                reward=float(self._rewards[agent]),
                num_frames=int(self._steps[agent]) * self._env.spec.frameskip,
                stats=agent_episode_stats(stats or {}, agent),
            )
            for agent in agents.tolist()
        ]
        self._rewards[agents], self._steps[agents] = 0.0, 0
        return found


class Pace:
    """Sleeps so that steps follow each other at an even rate."""

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._next = time.monotonic() + step_s

    def wait(self) -> None:
        if self._step_s <= 0:
            return
        now = time.monotonic()
        if self._next > now:
            time.sleep(self._next - now)
        self._next = max(now, self._next) + self._step_s


class FrameSource:
    """Rendered frames of an environment, at most so many of them."""

    def __init__(self, sink: Callable[[Frame], None], max_frames: int) -> None:
        self._sink = sink
        self._left = max_frames

    def __call__(self, env: Env) -> None:
        if self._left <= 0 or not isinstance(env, SupportsRender):
            return
        frame = env.render()
        if frame is not None:
            self._left -= 1
            self._sink(frame)


def summarize(results: list[EpisodeResult]) -> dict[str, dict[str, float]]:
    """Metric -> mean, standard deviation over episodes, min, max, median."""
    values: dict[str, list[float]] = {}
    for result in results:
        for name, value in result.metrics().items():
            values.setdefault(name, []).append(value)
    return {
        name: {
            "mean": float(np.mean(found)),
            "std": float(np.std(found)),
            "min": float(np.min(found)),
            "median": float(np.median(found)),
            "max": float(np.max(found)),
        }
        for name, found in values.items()
    }


def table(summary: Mapping[str, Mapping[str, float]]) -> str:
    """The summary as aligned text."""
    columns = ("mean", "std", "min", "median", "max")
    width = max([len(name) for name in summary] + [6])
    lines = [" " * width + "".join(f"{column:>12}" for column in columns)]
    for name, row in summary.items():
        lines.append(f"{name:<{width}}" + "".join(f"{row[column]:>12.3f}" for column in columns))
    return "\n".join(lines)
