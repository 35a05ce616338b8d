"""Environments that take and give lists with one entry per agent, and begin their agents' next episodes themselves.

Shape letters: A agents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf_algo.envs.gym_api import episode_stats, is_active, reward_of
from sf_algo.envs.leaves import PixelFormat
from sf_algo.envs.spaces import ObsWriter, action_decoder
from sf_algo.envs.spec import EnvSpec, EpisodeStats, ObsBlock, ObsRow, StepResult
from sf_algo.errors import EnvContractError


class AgentLists:
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
        self._env = env
        agents = int(_attribute(env, "num_agents"))
        self._writers = [
            ObsWriter(env.observation_space, pixel_format=pixel_format, framestack=framestack) for _ in range(agents)
        ]
        actions, self._decode = action_decoder(env.action_space)
        self.spec = EnvSpec(
            obs=self._writers[0].specs, actions=actions, num_agents=agents, frameskip=frameskip, autoreset=True
        )
        self._first = np.ones(agents, np.bool_)
        self._closed = False

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
        active = np.array([is_active(info) for info in infos], np.bool_)
        stats = agents_stats(infos, ended) if ended.any() else None
        return StepResult(
            np.array([reward_of(reward) for reward in rewards], np.float32), terminated, truncated, active, stats, ended
        )

    def _write(self, obs: Sequence[Any], out: ObsBlock) -> None:
        if len(obs) != len(self._writers):
            raise EnvContractError(f"the environment returned {len(obs)} observations for {len(self._writers)} agents")
        for agent, (writer, one) in enumerate(zip(self._writers, obs, strict=True)):
            writer.write(one, {name: array[agent, ...] for name, array in out.items()}, first=bool(self._first[agent]))

    def write_observation(self, obs: Any, row: ObsRow, *, first: bool = False) -> None:
        """What the environment returned for one agent, as policies see it; `first` marks the first of an episode."""
        self._writers[0].write(obs, row, first=first)

    def action_of(self, row: NDArray[np.float32]) -> Any:
        """One agent's action [width] in the form that the environment takes."""
        return self._decode(row)

    def render(self) -> NDArray[np.uint8] | None:
        frame = self._env.render()
        return frame if isinstance(frame, np.ndarray) else None

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._env.close()


def agents(env: Any, *, frameskip: int = 1) -> AgentLists:
    """An environment of lists per agent, for makers: `return agents(my_env)`."""
    return AgentLists(env, frameskip=frameskip)


def is_agent_lists(env: Any) -> bool:
    """Whether it says of itself that it has several agents, as environments of this kind do."""
    return bool(_attribute(env, "is_multiagent")) and _attribute(env, "num_agents") is not None


def _attribute(env: Any, name: str) -> Any:
    """An attribute of an environment or of what its wrappers are around; gymnasium's wrappers do not pass them on."""
    while not hasattr(env, name):
        env = getattr(env, "__dict__", {}).get("env")
        if env is None:
            return None
    return getattr(env, name)


def agents_stats(infos: Sequence[Mapping[str, Any]], ended: NDArray[np.bool_]) -> EpisodeStats:
    """Statistics [A] of the agents that ended, from their infos; NaN for a number that an agent did not give."""
    found: dict[str, NDArray[np.float64]] = {}
    for agent in np.flatnonzero(ended).tolist():
        for name, value in episode_stats(infos[agent]).items():
            found.setdefault(name, np.full(len(infos), np.nan))[agent] = value
    return found
