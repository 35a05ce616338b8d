"""Environments of several agents: lists per agent, PettingZoo's of both kinds, spaces that differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
from gymnasium import spaces
from numpy.typing import NDArray

from sf_algo.envs.agent_lists import AgentLists, agents
from sf_algo.envs.factory import EnvSections, make_env
from sf_algo.envs.parallel import ParallelAgents, TurnAgents, parallel, roles_of
from sf_algo.envs.spec import Discrete, Env
from sf_algo.errors import EnvError
from sf_algo.rollout.policy_draw import PolicyDraw
from tests.algo.split_harness import Harness


class Drones:
    """Lists per agent; drone a's episode takes a + 2 steps and begins anew by itself. Drone 1 is out of the game in odd
    steps."""

    is_multiagent = True

    def __init__(self, count: int = 2) -> None:
        self.num_agents = count
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.actions: list[Any] = []

    def reset(self) -> tuple[list[NDArray[Any]], list[dict[str, Any]]]:
        self.at = [0] * self.num_agents
        self.lives = [0] * self.num_agents
        return self._obs(), [{} for _ in self.at]

    def step(self, actions: Sequence[Any]) -> tuple[list[Any], ...]:
        self.actions = list(actions)
        self.at = [at + 1 for at in self.at]
        ended = [at == agent + 2 for agent, at in enumerate(self.at)]
        infos: list[dict[str, Any]] = [{"is_active": agent != 1 or at % 2 == 0} for agent, at in enumerate(self.at)]
        for agent, over in enumerate(ended):
            if over:
                infos[agent] |= {"true_objective": 10.0 * agent, "episode_extra_stats": {"life": self.lives[agent]}}
                self.at[agent] = 0
                self.lives[agent] += 1
        rewards = [1.0] * self.num_agents
        return self._obs(), rewards, ended, [False] * self.num_agents, infos

    def _obs(self) -> list[NDArray[Any]]:
        return [np.array([life, at], np.float64) for life, at in zip(self.lives, self.at, strict=True)]

    def close(self) -> None: ...


def make_drones() -> Drones:
    return Drones()


def test_lists_per_agent() -> None:
    harness = Harness(lambda e: agents(Drones()), num_envs=1, rollout=6)
    harness.open()
    slot = harness.fill_slot()
    assert slot["obs/obs"][:, 0].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1], [3, 0]]
    assert slot["terminated"].T.tolist() == [
        [False, True, False, True, False, True],
        [False, False, True, False, False, True],
    ]
    assert (slot["reset_after"] == slot["terminated"]).all()
    assert slot["valid"].T.tolist() == [[True] * 6, [False, True, False, False, True, False]]
    # What comes while drone 1 is out of the game is for what it did last; before its first action there is nothing.
    assert slot["rewards"].T.tolist() == [[1.0] * 6, [1, 2, 0, 1, 2, 0]]
    reports = [(r.reward, r.stats["true_reward"], r.stats["life"]) for r in harness.split.finished]
    assert reports == [(2, 0, 0), (3, 10, 0), (2, 0, 1), (2, 0, 2), (3, 10, 1)]


def test_lists_are_adapted_where_a_maker_returns_them() -> None:
    env = make_env(f"{__name__}:make_drones", EnvSections())
    assert isinstance(env, AgentLists)
    assert isinstance(env, Env)


def test_four_values_or_a_wrong_number_of_agents_are_told() -> None:
    env = agents(Drones())
    block = {"obs": np.zeros((2, 2), np.float32)}
    env.reset(block)
    env._env.step = lambda actions: ([], [], [], [])
    with pytest.raises(EnvError, match="returned 4 values"):
        env.step(np.zeros((2, 2), np.float32), block)
    with pytest.raises(EnvError, match="1 observations for 2 agents"):
        env._write([np.zeros(2)], block)


class Hunt:
    """A PettingZoo parallel environment: the fox sees 3 numbers and has 2 actions, the hare sees 2 and has 4. The hare
    is caught in step 2, the fox goes on until step 4."""

    metadata: ClassVar[dict[str, Any]] = {"name": "hunt_v0"}
    render_mode = None

    def __init__(self) -> None:
        self.possible_agents = ["fox", "hare"]
        self.agents: list[str] = []
        self.taken: list[dict[str, Any]] = []
        self._obs_spaces = {"fox": spaces.Box(-1, 9, (3,), np.float32), "hare": spaces.Box(-1, 9, (2,), np.float32)}
        self._action_spaces = {"fox": spaces.Discrete(2), "hare": spaces.Discrete(4, start=10)}

    def observation_space(self, agent: str) -> Any:
        return self._obs_spaces[agent]

    def action_space(self, agent: str) -> Any:
        return self._action_spaces[agent]

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.agents, self.at = list(self.possible_agents), 0
        return self._obs(), {name: {} for name in self.agents}

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        self.taken.append(actions)
        self.at += 1
        acting = self.agents
        obs = self._obs()
        terminated = {name: name == "hare" and self.at == 2 for name in acting}
        truncated = dict.fromkeys(acting, self.at == 4)
        infos = {name: {"episode_extra_stats": {"steps": self.at}} for name in acting}
        self.agents = [name for name in acting if not (terminated[name] or truncated[name])]
        return obs, dict.fromkeys(acting, 1.0), terminated, truncated, infos

    def _obs(self) -> dict[str, Any]:
        return {name: np.full(self._obs_spaces[name].shape, self.at, np.float32) for name in self.agents}

    def close(self) -> None: ...


def make_hunt(**kwargs: Any) -> Hunt:
    if set(kwargs) - {"render_mode"}:
        raise TypeError(f"Hunt.__init__() got an unexpected keyword argument {min(set(kwargs))!r}")
    return Hunt()


def test_agents_of_different_spaces_that_end_one_by_one() -> None:
    made: list[Hunt] = []

    def make(e: int) -> Env:
        made.append(Hunt())
        return parallel(made[-1])

    harness = Harness(make, num_envs=1, rollout=6)
    harness.open()
    slot = harness.split.slot
    for row in range(6):
        slot["actions"][row] = row % 2
        harness.split.step()
    assert slot["obs/action_mask"][0].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert slot["obs/obs"][1].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert slot["valid"].T.tolist() == [
        [True, True, True, True, False, True],
        [True, True, False, False, False, True],
    ]
    assert slot["terminated"].T.tolist() == [[False] * 6, [False, True, False, False, False, False]]
    assert slot["truncated"].T.tolist() == [[False, False, False, True, False, False], [False] * 6]
    assert slot["rewards"].T.tolist() == [[1, 1, 1, 1, 0, 1], [1, 1, 0, 0, 0, 1]]
    # The final observation of the fox, while the hare sees nothing any more.
    assert slot["obs/obs"][4].tolist() == [[4, 4, 4], [0, 0, 0]]
    assert made[-1].taken[1] == {"fox": 1, "hare": 11}
    assert made[-1].taken[2] == {"fox": 0}
    assert [(r.reward, r.num_steps, r.stats) for r in harness.split.finished] == [
        (4.0, 4, {"steps": 4.0}),
        (2.0, 2, {"steps": 2.0}),
    ]


def test_makers_that_hand_their_keywords_on_get_only_known_ones() -> None:
    env = make_env(f"{__name__}:make_hunt", EnvSections())
    assert isinstance(env, ParallelAgents)
    assert env.spec.actions.components == (Discrete(4),)


def test_agents_that_cannot_be_padded_are_told() -> None:
    hunt = Hunt()
    hunt._action_spaces["hare"] = spaces.Box(-1, 1, (2,))  # type: ignore[assignment]
    with pytest.raises(EnvError, match="agents act in Box"):
        parallel(hunt)
    hunt = Hunt()
    hunt._obs_spaces["hare"] = spaces.Box(0, 255, (4, 4), np.uint8)
    with pytest.raises(EnvError, match="for one agent and"):
        parallel(hunt)


class Nim:
    """A PettingZoo environment in turns: who takes the last of 3 matches, one or two at a time, loses."""

    metadata: ClassVar[dict[str, Any]] = {"name": "nim_v0"}

    def __init__(self) -> None:
        self.possible_agents = ["first", "second"]

    def observation_space(self, agent: str) -> Any:
        return spaces.Dict({"left": spaces.Box(0, 3, (1,), np.float32), "action_mask": spaces.Box(0, 1, (2,), np.int8)})

    def action_space(self, agent: str) -> Any:
        return spaces.Discrete(2)

    def agent_iter(self) -> Any:
        raise NotImplementedError

    def reset(self, seed: int | None = None) -> None:
        self.agents, self.left, self.agent_selection = list(self.possible_agents), 3, "first"
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos: dict[str, dict[str, Any]] = {name: {} for name in self.agents}

    def observe(self, agent: str) -> dict[str, Any]:
        allowed = [1, self.left > 1] if agent == self.agent_selection else [0, 0]
        return {"left": np.array([self.left], np.float32), "action_mask": np.array(allowed, np.int8)}

    def step(self, action: int | None) -> None:
        mine = self.agent_selection
        other = self.possible_agents[mine == "first"]
        self.agent_selection = other
        if self.terminations[mine]:
            assert action is None
            self.agents.remove(mine)
            return
        assert action is not None
        self.left -= action + 1
        if self.left <= 0:
            self.rewards = {mine: -1.0, other: 1.0}
            self.terminations = dict.fromkeys(self.agents, True)

    def close(self) -> None: ...


def make_nim() -> Nim:
    return Nim()


def test_turns_leave_everybody_else_waiting_and_a_late_reward_is_for_the_last_move() -> None:
    harness = Harness(lambda e: parallel(Nim()), num_envs=1, rollout=3)
    harness.open()
    slot = harness.split.slot
    assert isinstance(parallel(Nim()), TurnAgents)
    for action in (0, 1, 0):  # the first takes one, the second the last two and loses; another game begins
        slot["actions"][harness.split.row] = action
        harness.split.step()
    assert slot["valid"].T.tolist() == [[True, False, True], [False, True, False]]
    assert slot["terminated"].T.tolist() == [[False, True, False], [False, True, False]]
    assert slot["rewards"].T.tolist() == [[1, 0, 0], [0, -1, 0]]
    # Who waits may do anything: nothing comes of it.
    assert slot["obs/action_mask"][1].tolist() == [[1, 1], [1, 1]]
    assert [(r.reward, r.num_steps) for r in harness.split.finished] == [(1.0, 1), (-1.0, 1)]


def test_roles_are_told_by_names_and_have_policies_of_their_own() -> None:
    assert roles_of(["adversary_0", "agent_0", "agent_1"]) == (0, 1, 1)
    assert roles_of(["player_1", "player_2"]) == ()
    harness = Harness(lambda e: parallel(Hunt()), num_envs=1, rollout=60, num_policies=4)
    harness.open()
    slot = harness.split.slot
    for row in range(60):
        slot["actions"][row] = row % 2
        harness.split.step()
    assert set(slot["policy_id"][:, 0].tolist()) == {0, 2}
    assert set(slot["policy_id"][:, 1].tolist()) == {1, 3}
    # Fewer policies than roles: everybody may follow each.
    draw = PolicyDraw(num_policies=2, mix=True, seed=1, roles=(0, 1, 2))
    assert set(np.concatenate([draw.draw(env_index=e, episode=0, num_agents=3) for e in range(20)]).tolist()) == {0, 1}


def test_doubles_pass_pettingzoo_s_own_test() -> None:
    pytest.importorskip("pettingzoo")
    from pettingzoo import ParallelEnv
    from pettingzoo.test import parallel_api_test

    class Registered(Hunt, ParallelEnv): ...  # type: ignore[misc, type-arg]

    parallel_api_test(Registered(), num_cycles=50)


@pytest.mark.parametrize(
    ("name", "num_agents"),
    [
        ("pettingzoo.classic.tictactoe_v3:env", 2),
        ("pettingzoo.classic.rps_v2:parallel_env", 2),
        ("pettingzoo.butterfly.pistonball_v6:parallel_env", 20),
        ("pettingzoo.butterfly.knights_archers_zombies_v11:parallel_env", 4),
    ],
)
def test_environments_of_pettingzoo_play(name: str, num_agents: int) -> None:
    for module in ("pettingzoo", "pygame", *(["pymunk"] if "pistonball" in name else [])):
        pytest.importorskip(module)
    env = make_env(name, EnvSections())
    assert env.spec.num_agents == num_agents
    target = env.spec.targets({key: spec.zeros(num_agents) for key, spec in env.spec.obs.items()})
    rng = np.random.default_rng(0)
    ended, episodes = np.zeros(num_agents, np.bool_), 0
    env.reset(target, seed=1)
    for _ in range(130):
        result = env.step(env.spec.sample_actions(rng, target), target)
        ended |= result.terminated | result.truncated
        if ended.all():
            ended[:] = False
            episodes += 1
            env.reset(target)
    env.close()
    assert episodes or name.startswith("pettingzoo.butterfly.knights")
