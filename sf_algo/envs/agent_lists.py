"""Environments that take and give lists with one entry per agent, and begin their agents' next episodes themselves.

Shape letters: A agents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf_algo.envs.adapter import AgentAdapter, attribute_of
from sf_algo.envs.gym_api import PLAIN_REWARDS, episode_stats, is_active, reward_of
from sf_algo.envs.leaves import PixelFormat
from sf_algo.envs.spaces import ObsWriter, action_decoder
from sf_algo.envs.spec import EnvSpec, EpisodeStats, ObsBlock, StepResult
from sf_algo.errors import EnvContractError


class AgentLists(AgentAdapter):
    """`reset()` returns A observations and A infos; `step(A actions)` returns lists of A observations, rewards,
    terminated, truncated and infos. All agents have the spaces `observation_space` and `action_space`.

    An agent whose episode ended is shown the first observation of its next one at once: its final observation is lost,
    so that nothing is bootstrapped from it. `info["is_active"] = False` marks an agent that is out of the game; it
    keeps its row, and nothing of it is learned. `info["episode_extra_stats"]`, `info["true_objective"]` (as
    `true_reward`) and `info["is_success"]` of an agent's last step reach the statistics of its episode.
    """

    def __init__(self, env: Any, *, frameskip: int = 1, framestack: int = 1, pixel_format: PixelFormat = "CHW") -> None:
        """`frameskip`: simulator frames per step of `env`, for counting; it is the environment's own business.

        Raises EnvError for spaces without an array form.
        """
        agents = int(attribute_of(env, "num_agents"))
        self._writers = [
            ObsWriter(env.observation_space, pixel_format=pixel_format, framestack=framestack) for _ in range(agents)
        ]
        actions, decode = action_decoder(env.action_space)
        super().__init__(env, self._writers[0], decode)
        self._write_step = [writer.step_writer() for writer in self._writers]
        self.spec = EnvSpec(
            obs=self._writers[0].specs, actions=actions, num_agents=agents, frameskip=frameskip, autoreset=True
        )
        self._first = np.ones(agents, np.bool_)
        self._rewards = np.zeros(agents, np.float32)
        self._everybody = np.ones(agents, np.bool_)

    def reset(self, out: ObsBlock, *, seed: int | None = None) -> None:
        try:
            answer = self._env.reset(seed=seed)
        except TypeError as error:
            if "seed" not in str(error):
                raise
            answer = self._env.reset()
        obs = answer[0] if isinstance(answer, tuple) and len(answer) == 2 else answer
        self._first[:] = True
        self._write(obs, out)

    def step(self, actions: NDArray[np.float32], out: ObsBlock) -> StepResult:
        answer = self._env.step([self._decode(row) for row in actions])
        if len(answer) != 5:
            raise EnvContractError(
                f"step() returned {len(answer)} values; five lists are expected, as gymnasium has them: observations, "
                "rewards, terminated, truncated and infos"
            )
        obs, rewards, terminated, truncated, infos = answer
        terminated, truncated = np.array(terminated, np.bool_), np.array(truncated, np.bool_)
        ended = terminated | truncated
        self._first = ended
        self._write(obs, out)
        active = self._everybody
        if any(info and "is_active" in info for info in infos):
            active = np.array([is_active(info) for info in infos], np.bool_)
        if len(rewards) != len(self._rewards):
            raise EnvContractError(f"the environment returned {len(rewards)} rewards for {len(self._rewards)} agents")
        for agent, reward in enumerate(rewards):
            self._rewards[agent] = reward if type(reward) in PLAIN_REWARDS else reward_of(reward)
        if not ended.any():
            return StepResult(self._rewards, terminated, truncated, active, None)
        return StepResult(self._rewards, terminated, truncated, active, agents_stats(infos, ended), ended)

    def _write(self, obs: Sequence[Any], out: ObsBlock) -> None:
        if len(obs) != len(self._writers):
            raise EnvContractError(f"the environment returned {len(obs)} observations for {len(self._writers)} agents")
        for agent, first in enumerate(self._first.tolist()):
            row = {name: array[agent, ...] for name, array in out.items()}
            if first:
                self._writers[agent].write(obs[agent], row, first=True)
            else:
                self._write_step[agent](obs[agent], row)


def agents(env: Any, *, frameskip: int = 1) -> AgentLists:
    """An environment of lists per agent, for makers: `return agents(my_env)`."""
    return AgentLists(env, frameskip=frameskip)


def is_agent_lists(env: Any) -> bool:
    """Whether it says of itself that it has several agents, as environments of this kind do."""
    return bool(attribute_of(env, "is_multiagent")) and isinstance(attribute_of(env, "num_agents"), int | np.integer)


def agents_stats(infos: Sequence[Mapping[str, Any]], ended: NDArray[np.bool_]) -> EpisodeStats:
    """Statistics [A] of the agents that ended, from their infos; NaN for a number that an agent did not give."""
    found: dict[str, NDArray[np.float64]] = {}
    for agent in np.flatnonzero(ended).tolist():
        for name, value in episode_stats(infos[agent]).items():
            found.setdefault(name, np.full(len(infos), np.nan))[agent] = value
    return found
