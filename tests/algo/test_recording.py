"""What infos say beside rewards: numbers of every step, extras of episodes; shaping of single agents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import pytest

from sf_algo.config import EnvConfig
from sf_algo.envs.custom import make_custom
from sf_algo.envs.recorder import InfoRecorder, sayable
from sf_algo.envs.recording import record_infos
from sf_algo.envs.spec import Env, EnvPlacement
from sf_algo.errors import EnvContractError, EnvError
from sf_algo.testing import MemoryEnv
from tests.algo.split_harness import Harness

VECTOR = gymnasium.spaces.Box(-9.0, 9.0, (1,), np.float32)


class Costly(gymnasium.Env[Any, Any]):
    """The cost is the action; every third step ends an episode."""

    observation_space = VECTOR
    action_space = gymnasium.spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        done = self.steps == 3
        info = {"cost": float(action), **({"episode_extras": {"steps": self.steps}} if done else {})}
        return np.zeros(1, np.float32), 1.0, done, False, info if action else {}


class Lists:
    """Two agents, lists per agent; agent 1 ends in every second step."""

    is_multiagent = True
    num_agents = 2
    observation_space = VECTOR
    action_space = gymnasium.spaces.Discrete(4)

    def __init__(self) -> None:
        self.steps = 0
        self.shapings: list[tuple[int, Mapping[str, Any]]] = []

    def shaping(self) -> Mapping[str, Any]:
        return {"delta": {"health": 0.1}}

    def set_shaping(self, agent: int, values: Mapping[str, Any]) -> None:
        self.shapings.append((agent, values))

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        return [np.zeros(1, np.float32)] * 2, [{}, {}]

    def step(self, actions: Any) -> Any:
        self.steps += 1
        ended = [False, self.steps % 2 == 0]
        infos = [{"cost": 10.0 + a, "episode_extras": (a, self.steps)} for a in range(2)]
        return [np.zeros(1, np.float32)] * 2, [0.0, 0.0], ended, [False, False], infos


def made(env: Any, *fields: str, extras: bool = True, skip: int | None = None) -> Env:
    cfg = EnvConfig(step_fields=fields, env_frameskip=skip)
    adapted = make_custom("mine", lambda: env, cfg, EnvPlacement(), more={}, told={})
    return record_infos(adapted, cfg, extras=extras)


def test_numbers_of_every_step_stand_in_the_row_of_their_action() -> None:
    harness = Harness(lambda index: made(Costly(), "cost"), num_envs=2, warm_up_steps=2)
    harness.open()
    slot = harness.split.slot
    for row in range(harness.split.rollout):
        slot["actions"][row] = [[row % 4], [2]]
        harness.split.step()
        assert slot["step/cost"][row].tolist() == [row % 4, 2]
    assert {report.extras["steps"] for report in harness.split.finished if report.extras} == {3}


def test_numbers_of_skipped_frames_are_added_up() -> None:
    env = made(Costly(), "cost", skip=2)
    out = [{"obs": np.zeros(1, np.float32)}]
    env.reset(out)
    env.step(np.full((1, 1), 3, np.float32), out)
    into = {"cost": np.zeros(1, np.float32)}
    env.recorder.take_fields(into)  # type: ignore[attr-defined]
    assert into["cost"].tolist() == [6.0]
    env.recorder.take_fields(into)  # type: ignore[attr-defined]
    assert into["cost"].tolist() == [0.0]


class GymnasiumLists(Lists, gymnasium.Env[Any, Any]):
    """As projects have them that were written for Sample Factory."""


@pytest.mark.parametrize("kind", [Lists, GymnasiumLists])
def test_agents_of_lists_have_their_own(kind: type[Lists]) -> None:
    users = kind()
    harness = Harness(lambda index: made(users, "cost"), num_envs=1, rollout=4)
    harness.open()
    slot = harness.fill_slot()
    assert slot["step/cost"][:4].tolist() == [[10.0, 11.0]] * 4
    assert [(r.extras, r.num_steps) for r in harness.split.finished] == [([1, 2], 2), ([1, 4], 2)]


def test_vector_environments_have_arrays() -> None:
    vector = gymnasium.vector.SyncVectorEnv([Costly, Costly])
    env = made(vector, "cost")
    out = {"obs": np.zeros((2, 1), np.float32)}
    env.reset(out)
    env.step(np.array([[1], [3]], np.float32), out)
    into = {"cost": np.zeros(2, np.float32)}
    env.recorder.take_fields(into)  # type: ignore[attr-defined]
    assert into["cost"].tolist() == [1.0, 3.0]
    env.close()


def test_nothing_is_put_between_where_nobody_asks() -> None:
    env = made(Costly(), extras=False)
    assert not hasattr(env, "recorder")


def test_an_environment_without_infos() -> None:
    assert isinstance(made(MemoryEnv()), MemoryEnv)
    with pytest.raises(EnvError, match="--step_fields=cost: this environment has no infos"):
        made(MemoryEnv(), "cost")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("much", "info\\['cost'\\] is 'much'"),
        ([1.0, 2.0], "is of shape \\(2,\\), but --step_fields says that it is a num"),
    ],
)
def test_numbers_that_are_none(value: Any, message: str) -> None:
    with pytest.raises(EnvContractError, match=message):
        InfoRecorder(1, {"cost": ()}).see(0, {"cost": value})


def test_extras_are_what_json_can_say() -> None:
    value = {"a": np.arange(2), "b": np.float32(0.5), 3: (1, None), "c": object}
    assert sayable(value) == {"a": [0, 1], "b": 0.5, "3": [1, None], "c": "<class 'object'>"}
    loop: list[Any] = []
    loop.append(loop)
    assert sayable(loop) == "[[...]]"


def test_agents_get_the_shaping_of_their_policy_with_every_episode() -> None:
    users = Lists()
    values: dict[int, dict[str, float] | None] = {0: None}
    harness = Harness(lambda index: made(users, extras=False), num_envs=1, shaping=values.get)
    assert harness.envs.spec.shaping == {"delta/health": 0.1}
    harness.open()
    harness.split.slot["actions"][:] = 0
    harness.split.step()
    assert users.shapings == []
    values[0] = {"delta/health": 2.0}
    harness.split.step()  # agent 1 begins anew
    assert users.shapings == [(1, {"delta": {"health": 2.0}})]


def test_an_environment_that_skips_frames_itself_is_not_skipped_twice() -> None:
    env = Costly()
    assert made(env, skip=3, extras=False).spec.frameskip == 3
    env.own_frameskip = 3  # type: ignore[attr-defined]
    adapted = made(env, "cost", skip=3)
    assert adapted.spec.frameskip == 3
    out = [{"obs": np.zeros(1, np.float32)}]
    adapted.reset(out)
    adapted.step(np.ones((1, 1), np.float32), out)
    assert env.steps == 1
