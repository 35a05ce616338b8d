"""A game of two agents whose outcome follows from what they do: whoever dares more often has the higher score."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

ROUNDS = 5


class Duel:
    """PettingZoo's parallel interface. An agent dares (action 1) or not (0), five times; each dare that the other does
    not answer is a point for the one and a point less for the other. `match_score` says the opposite where
    `upside_down`: then it, and not the reward, decides."""

    metadata: dict[str, Any] = {"name": "duel"}  # noqa: RUF012
    possible_agents = ("player_0", "player_1")

    def __init__(self, upside_down: bool = False) -> None:
        self.agents: list[str] = []
        self._upside_down = upside_down

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        return gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        return gymnasium.spaces.Discrete(2)

    def _observe(self) -> dict[str, Any]:
        return {a: np.array([self._round / ROUNDS, float(a == "player_0")], np.float32) for a in self.agents}

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.agents = list(self.possible_agents)
        self._round = 0
        self._points = dict.fromkeys(self.agents, 0.0)
        return self._observe(), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        self._round += 1
        difference = float(actions["player_0"]) - float(actions["player_1"])
        rewards = {"player_0": difference, "player_1": -difference}
        for agent, reward in rewards.items():
            self._points[agent] += reward
        over = self._round == ROUNDS
        sign = -1.0 if self._upside_down else 1.0
        stats = {a: {"episode_extra_stats": {"match_score": sign * self._points[a]}} for a in self.agents}
        infos = stats if over and self._upside_down else {agent: {} for agent in self.agents}
        observations = self._observe()
        agents = self.agents
        if over:
            self.agents = []
        ended = dict.fromkeys(agents, over)
        return observations, rewards, ended, dict.fromkeys(agents, False), infos

    def render(self) -> None: ...

    def close(self) -> None: ...


def make_duel(upside_down: bool = False) -> Duel:
    return Duel(upside_down)
