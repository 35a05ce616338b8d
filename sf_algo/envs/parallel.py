"""PettingZoo environments: agents that act together, or in turns.

Shape letters: A agents that the environment may have (`possible_agents`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf_algo.envs.adapter import Adapter
from sf_algo.envs.gym_api import episode_stats, reward_of
from sf_algo.envs.leaves import PixelFormat
from sf_algo.envs.padding import PaddedAgent, padded
from sf_algo.envs.spaces import ObsWriter, action_decoder
from sf_algo.envs.spec import EnvSpec, EpisodeStats, ObsRow, StepResult
from sf_algo.errors import EnvContractError, EnvError


class _Agents(Adapter):
    """What both kinds share: spaces, rows and statistics of the agents, by name."""

    def __init__(self, env: Any, frameskip: int, pixel_format: PixelFormat) -> None:
        super().__init__(env)
        self.names: list[str] = list(env.possible_agents)
        if not self.names:
            raise EnvError("the environment's possible_agents is empty; a PettingZoo environment must list its agents")
        parts = []
        for name in self.names:
            actions, decode = action_decoder(env.action_space(name))
            parts.append((ObsWriter(env.observation_space(name), pixel_format=pixel_format), actions, decode))
        self.spec, self._padded = padded(parts, frameskip=frameskip, roles=roles_of(self.names))
        self._index = {name: index for index, name in enumerate(self.names)}
        self._stats: dict[str, NDArray[np.float64]] = {}
        self._seen = np.zeros(len(self.names), np.bool_)

    def of(self, name: str) -> int:
        """The agent's column. Raises EnvError for one that possible_agents does not list."""
        try:
            return self._index[name]
        except KeyError:
            raise EnvContractError(f"agent {name!r} is not in the environment's possible_agents") from None

    def agent(self, name: str) -> PaddedAgent:
        return self._padded[self.of(name)]

    def begin(self) -> None:
        """A new episode begins."""
        self._stats = {}
        self._seen[:] = False

    def write(self, name: str, obs: Any, out: Sequence[ObsRow]) -> None:
        """Write the agent's observation into its row."""
        index = self.of(name)
        self._padded[index].write(obs, out[index], first=not self._seen[index])
        self._seen[index] = True

    def blank(self, index: int, row: ObsRow) -> None:
        """What an agent sees that is not there: nothing, and every action is allowed."""
        self._padded[index].blank(row)

    def note(self, name: str, info: Mapping[str, Any]) -> None:
        """Keep what an agent's last info says about its episode."""
        for key, value in episode_stats(info).items():
            self._stats.setdefault(key, np.full(len(self.names), np.nan))[self.of(name)] = value

    def stats(self) -> EpisodeStats:
        return self._stats


class _NamedAgents:
    """What both adapters share."""

    def __init__(self, env: Any, *, frameskip: int = 1, pixel_format: PixelFormat = "CHW") -> None:
        """Raises EnvError for spaces without an array form, or agents whose spaces cannot be padded to common ones."""
        self._env = env
        self._agents = _Agents(env, frameskip, pixel_format)
        self.spec: EnvSpec = self._agents.spec
        self.render, self.close = self._agents.render, self._agents.close


class ParallelAgents(_NamedAgents):
    """A `pettingzoo.ParallelEnv`. Agents that are not in `env.agents` are out of the game until the next reset."""

    def reset(self, out: Sequence[ObsRow], *, seed: int | None = None) -> None:
        obs, _ = self._env.reset(seed=seed)
        self._agents.begin()
        self._write(obs, out)

    def step(self, actions: NDArray[np.float32], out: Sequence[ObsRow]) -> StepResult:
        acting = list(self._env.agents)
        chosen = {name: self._agents.agent(name).decode(actions[self._agents.of(name)]) for name in acting}
        obs, rewards, terminations, truncations, infos = self._env.step(chosen)
        result = StepResult.blank(len(self._agents.names), active=False)
        for name in {*rewards, *acting}:
            index = self._agents.of(name)
            result.rewards[index] = reward_of(rewards.get(name, 0.0))
            result.active[index] = name in chosen
            result.terminated[index] = terminations.get(name, False)
            result.truncated[index] = truncations.get(name, False)
            if result.terminated[index] or result.truncated[index]:
                self._agents.note(name, infos.get(name, {}))
        self._write(obs, out)
        if self._env.agents:
            return result
        never_ended = ~(result.terminated | result.truncated)
        result.terminated[never_ended] = True  # it left before, or never came: the game is over for all
        return result._replace(episode=self._agents.stats())

    def _write(self, obs: Mapping[str, Any], out: Sequence[ObsRow]) -> None:
        for index, name in enumerate(self._agents.names):
            if name in obs:
                self._agents.write(name, obs[name], out)
            else:
                self._agents.blank(index, out[index])


class TurnAgents(_NamedAgents):
    """A `pettingzoo.AECEnv`, whose agents act in turns: everybody but the one whose turn it is waits.

    A reward that comes while an agent waits belongs to what it did last.
    """

    def reset(self, out: Sequence[ObsRow], *, seed: int | None = None) -> None:
        self._env.reset(seed=seed)
        self._agents.begin()
        self._write(out)

    def step(self, actions: NDArray[np.float32], out: Sequence[ObsRow]) -> StepResult:
        env, agents = self._env, self._agents
        result = StepResult.blank(len(agents.names), active=False)
        name = env.agent_selection
        index = agents.of(name)
        env.step(agents.agent(name).decode(actions[index]))
        result.active[index] = True
        for other, reward in env.rewards.items():
            result.rewards[agents.of(other)] += reward_of(reward)
        self._bury(result)
        self._write(out)
        if env.agents:
            return result
        result.terminated[~(result.terminated | result.truncated)] = True
        return result._replace(episode=agents.stats())

    def _bury(self, result: StepResult) -> None:
        """Note who ended. PettingZoo wants a step without an action from each of them, in turn."""
        env, agents = self._env, self._agents
        for name in env.agents:
            if env.terminations[name] or env.truncations[name]:
                index = agents.of(name)
                result.terminated[index] = env.terminations[name]
                result.truncated[index] = env.truncations[name]
                agents.note(name, env.infos.get(name, {}))
        while env.agents and (env.terminations[env.agent_selection] or env.truncations[env.agent_selection]):
            env.step(None)

    def _write(self, out: Sequence[ObsRow]) -> None:
        present = set(self._env.agents)
        for index, name in enumerate(self._agents.names):
            if name not in present:
                self._agents.blank(index, out[index])
                continue
            self._agents.write(name, self._env.observe(name), out)
            if name != self._env.agent_selection:
                self._agents.agent(name).allow_all(out[index])


def roles_of(names: Sequence[str]) -> tuple[int, ...]:
    """Number of each agent's role: agents whose names differ only in the number at their end have the same. Empty where
    all have."""
    kinds = [name.rstrip("0123456789").rstrip("_") for name in names]
    order = list(dict.fromkeys(kinds))
    return tuple(order.index(kind) for kind in kinds) if len(order) > 1 else ()


def parallel(env: Any, *, frameskip: int = 1) -> ParallelAgents | TurnAgents:
    """A PettingZoo environment of either kind, for makers: `return parallel(my_env)`. `frameskip`: simulator frames per
    step of `env`, for counting; it is the environment's own business."""
    kind = TurnAgents if is_turn_based(env) else ParallelAgents
    return kind(env, frameskip=frameskip)


def is_turn_based(env: Any) -> bool:
    """Whether a PettingZoo environment is an AECEnv."""
    return hasattr(env, "agent_iter")


def is_pettingzoo(env: Any) -> bool:
    """Whether it has PettingZoo's interface, of either kind."""
    return all(hasattr(env, name) for name in ("possible_agents", "observation_space", "action_space", "step")) and (
        callable(env.observation_space) and not hasattr(env.observation_space, "contains")
    )
