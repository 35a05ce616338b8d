"""Games between policies: several of them act in one environment of several agents.

Shape letters: A agents of the environment, S numbers of recurrent state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from sf_algo.envs.spec import Env, EpisodeStats, agent_episode_stats, goes_on
from sf_algo.errors import EnvError
from sf_algo.model.actor import Actor
from sf_algo.population.pairing import seating
from sf_algo.population.ratings import PairResult
from sf_algo.rollout.episodes import mix_seed

SCORE = "match_score"
"""Statistic of an agent's episode that decides who has won; an environment without it is decided by rewards."""


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A policy that can be asked for actions."""

    name: str
    actor: Actor
    rnn_state_size: int
    role: int | None = None
    """The only role that it can play; None: any."""


@dataclass(frozen=True, kw_only=True)
class Game:
    """One finished episode. Means over the agents that a contestant played: contestant -> number."""

    number: int
    scores: Mapping[str, float]
    rewards: Mapping[str, float]
    num_frames: int
    stats: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Contestant -> its statistics."""


class Contest:
    """One environment in which contestants meet. A game's seed follows from the contest's and the game's number."""

    def __init__(self, env: Env, *, seed: int) -> None:
        """Raises EnvError for an environment in which nobody can meet anybody."""
        spec = env.spec
        if spec.num_agents == 1:
            raise EnvError("policies meet in environments of several agents; this one has a single agent")
        if spec.autoreset:
            raise EnvError("policies cannot meet in this environment: its agents begin and end their episodes apart")
        self._env = env
        self._seed = seed
        self._roles = list(spec.roles) or [0] * spec.num_agents
        self._obs = {name: obs.zeros(spec.num_agents) for name, obs in spec.obs.items()}
        self._tensors = {name: torch.from_numpy(array) for name, array in self._obs.items()}
        self._target = spec.targets(self._obs)
        self.frames = 0

    def play(
        self,
        contestants: Sequence[Contestant],
        number: int,
        *,
        show: Callable[[Env], None] = lambda env: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Game | None:
        """Game number `number` of these contestants; None where it was cut short.

        Raises EnvError where nobody plays one of the environment's roles.
        """
        try:
            seats = seating(range(len(contestants)), self._roles, [one.role for one in contestants], number)
        except ValueError as error:
            raise EnvError(
                f"{error} of {len(set(self._roles))}; add a policy to --policies that was trained for it"
            ) from error
        env, spec = self._env, self._env.spec
        columns = {who: np.flatnonzero(np.asarray(seats) == who) for who in dict.fromkeys(seats)}
        states = {who: torch.zeros(len(own), contestants[who].rnn_state_size) for who, own in columns.items()}
        rewards = np.zeros(spec.num_agents, np.float64)
        playing = np.ones(spec.num_agents, np.bool_)
        env.reset(self._target, seed=mix_seed(self._seed, number))
        steps = 0
        show(env)
        while not stopped():
            actions = self._act(contestants, columns, states)
            result = env.step(actions, self._target)
            steps += 1
            self.frames += spec.frameskip
            rewards += result.rewards * playing
            show(env)
            if (result.terminated[0] or result.truncated[0]) and goes_on(env):
                env.reset(self._target)
                states = {who: torch.zeros_like(state) for who, state in states.items()}
                continue
            playing &= ~(result.terminated | result.truncated)
            if not playing.any():
                names = [contestants[who].name for who in seats]
                return _game(number, names, rewards, result.episode, steps * spec.frameskip)
        return None

    def _act(
        self,
        contestants: Sequence[Contestant],
        columns: Mapping[int, NDArray[np.int64]],
        states: dict[int, torch.Tensor],
    ) -> NDArray[np.float32]:
        """[A, width]; `states` move on."""
        actions = np.zeros((self._env.spec.num_agents, self._env.spec.actions.width), np.float32)
        for who, own in columns.items():
            rows = torch.from_numpy(own)
            acted = contestants[who].actor.step({name: t[rows] for name, t in self._tensors.items()}, states[who])
            actions[own] = acted.actions.numpy()
            states[who] = acted.rnn_states
        return actions


def _game(
    number: int, seats: Sequence[str], rewards: NDArray[np.float64], stats: EpisodeStats | None, num_frames: int
) -> Game:
    own_stats = [agent_episode_stats(stats or {}, agent) for agent in range(len(seats))]
    by_name: dict[str, list[int]] = {}
    for agent, name in enumerate(seats):
        by_name.setdefault(name, []).append(agent)
    scores = [own.get(SCORE, reward) for own, reward in zip(own_stats, rewards.tolist(), strict=True)]
    return Game(
        number=number,
        scores={name: _mean(scores[agent] for agent in agents) for name, agents in by_name.items()},
        rewards={name: _mean(float(rewards[agent]) for agent in agents) for name, agents in by_name.items()},
        num_frames=num_frames,
        stats={name: _means([own_stats[agent] for agent in agents]) for name, agents in by_name.items()},
    )


def _mean(numbers: Iterable[float]) -> float:
    return float(np.mean(list(numbers)))


def _means(stats: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for own in stats for name in own)
    return {name: _mean(own[name] for own in stats if name in own) for name in names}


def tally(games: Iterable[Game], order: Sequence[str] = ()) -> list[PairResult]:
    """Wins, draws and losses of every pair that met: in a game, who has the higher score has won.

    Who comes first in `order` is the first of a pair; those that are not in it follow by their names.
    """
    places = {name: place for place, name in enumerate(order)}
    found: dict[tuple[str, str], list[int]] = {}
    for game in games:
        for first, second in combinations(
            sorted(game.scores, key=lambda name: (places.get(name, len(places)), name)), 2
        ):
            counts = found.setdefault((first, second), [0, 0, 0])
            difference = game.scores[first] - game.scores[second]
            counts[0 if difference > 0 else 1 if difference == 0 else 2] += 1
    return [
        PairResult(first=first, second=second, wins=counts[0], draws=counts[1], losses=counts[2])
        for (first, second), counts in found.items()
    ]
