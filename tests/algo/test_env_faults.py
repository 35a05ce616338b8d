"""What the gymnasium adapter does with environments that break their own promises."""

from __future__ import annotations

import math
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import OrderEnforcing, TimeLimit

from sf_algo.config import EnvConfig
from sf_algo.envs.gymnasium_env import wrap_gymnasium
from sf_algo.envs.leaves import TEXT_NUMBERS, hashed_words, is_hwc
from sf_algo.envs.spaces import ObsWriter, action_decoder
from sf_algo.envs.spec import ACTION_MASK, agent_episode_stats
from sf_algo.errors import EnvContractError, EnvError

ZERO = np.zeros((1, 1), np.float32)
FLOATS = spaces.Box(-np.inf, np.inf, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (8, 8, 3), np.uint8)


class Scripted(gymnasium.Env[Any, Any]):
    """`first` is what reset returns, `then` what step returns."""

    def __init__(self, first: Any = None, *then: Any, obs: Any = FLOATS, actions: Any = None) -> None:
        self.observation_space = obs
        self.action_space = spaces.Discrete(2) if actions is None else actions
        self._first, self._then = first, then

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self._first

    def step(self, action: Any) -> Any:
        return self._then[0]


class OldReset(Scripted):
    def reset(self) -> Any:  # type: ignore[override]
        return self._first


GOOD = np.array([1, 2, 3], np.float32)


def played(env: gymnasium.Env[Any, Any], steps: int = 1) -> tuple[Any, dict[str, Any]]:
    adapted = wrap_gymnasium(env, EnvConfig())
    rows = adapted.spec.empty_rows()
    adapted.reset(rows, seed=1)
    for _ in range(steps):
        result = adapted.step(ZERO, rows)
    return result, rows[0]


@pytest.mark.parametrize("wrap", [lambda e: e, lambda e: TimeLimit(OrderEnforcing(e), 9)])
@pytest.mark.parametrize(
    ("env", "message"),
    [
        (Scripted(GOOD), "reset must take seed .* API of the old gym"),
        (Scripted(GOOD[:2]), "reset must take seed .* API of the old gym"),
        (Scripted((GOOD, GOOD)), "reset must take seed .* API of the old gym"),
        (OldReset((GOOD, {})), "reset must take seed .* API of the old gym"),
        (Scripted((GOOD, {}), (GOOD, 1.0, False, {})), r"step must return \(.* API of the old gym; split its done"),
        (Scripted((GOOD, {}), None), "step must return"),
        (Scripted((GOOD, {}), (GOOD, 1.0, np.array([False, True]), False, {})), "one truth value each, not arrays"),
        (
            Scripted((GOOD, {}), (GOOD, np.ones(3), False, False, {})),
            "reward must be one number, not a ndarray of shape",
        ),
        (Scripted((GOOD, {}), (GOOD, "much", False, False, {})), "reward must be one number, not a str"),
    ],
)
def test_a_breach_of_the_interface_is_one_line(wrap: Any, env: Any, message: str) -> None:
    with pytest.raises(EnvContractError, match=message) as caught:
        played(wrap(env))
    assert "\n" not in str(caught.value)


class Buggy(Scripted):
    def step(self, action: Any) -> Any:
        raise ValueError("not enough values to unpack (expected 5, got 4)")


def test_an_error_of_the_environment_itself_stays_what_it_is() -> None:
    with pytest.raises(ValueError, match="unpack"):
        played(Buggy((GOOD, {})))


@pytest.mark.parametrize(
    ("reward", "expected"),
    [(np.array([2.5]), 2.5), (np.float16(2.0), 2.0), (True, 1.0), (np.array(3), 3.0), (np.int64(4), 4.0)],
)
def test_rewards_of_every_kind(reward: Any, expected: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result, _ = played(Scripted((GOOD, {}), (GOOD, reward, False, False, {})))
    assert result.rewards[0] == expected


@pytest.mark.parametrize("reward", [None, math.nan])
def test_no_reward_is_not_a_number(reward: Any) -> None:
    assert math.isnan(played(Scripted((GOOD, {}), (GOOD, reward, False, False, {})))[0].rewards[0])


STATS = {
    "winner": None,
    "name": "red",
    "ragged": [[1], [2, 3]],
    "list": [1, 2],
    "huge": 10**400,
    "task": {"score": 3, "who": "me"},
    "array": np.array([[7]]),
    "lives": np.int8(2),
}


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (None, {}),
        ("a text", {}),
        ({"episode_extra_stats": None}, {}),
        ({"episode_extra_stats": 7}, {}),
        ({"true_objective": None, "is_success": None}, {}),
        ({"true_objective": "high", "is_success": np.array([True])}, {"is_success": 1.0}),
        (
            {"episode_extra_stats": STATS, "true_objective": np.array([5.0])},
            {"task/score": 3.0, "array": 7.0, "lives": 2.0, "true_reward": 5.0},
        ),
    ],
)
def test_a_statistic_never_costs_an_episode(info: Any, expected: dict[str, float]) -> None:
    result, _ = played(Scripted((GOOD, {}), (GOOD, 1.0, True, False, info)))
    assert result.terminated[0]
    assert result.episode == expected


def test_statistics_that_contain_themselves() -> None:
    endless: dict[str, Any] = {"depth": 1}
    endless["again"] = endless
    result, _ = played(Scripted((GOOD, {}), (GOOD, 1.0, True, False, {"episode_extra_stats": endless})))
    assert result.episode["depth"] == 1.0


def test_statistics_of_other_environments() -> None:
    stats: Any = {"per_agent": np.array([1.0, 2.0]), "short": np.array([1.0]), "none": None, "text": "x", 3: 4}
    assert agent_episode_stats(stats, 1) == {"per_agent": 2.0, "short": 1.0, "3": 4.0}


@pytest.mark.parametrize("active", [None, "yes", [1, 2]])
def test_a_strange_mark_of_activity_means_active(active: Any) -> None:
    assert played(Scripted((GOOD, {}), (GOOD, 1.0, False, False, {"is_active": active})))[0].active[0]


def image(low: float, high: float, dtype: Any) -> Any:
    return np.linspace(low, high, 192).reshape(8, 8, 3).astype(dtype)


@pytest.mark.parametrize(
    ("obs", "space", "message"),
    [
        (image(0, 1, np.float32), IMAGE, "float32 numbers from 0 to 1, but the observation_space says uint8"),
        (image(0, 300, np.int64), IMAGE, "int64 numbers from 0 to 300"),
        (image(-1, 10, np.int32), IMAGE, "int32 numbers from -1 to 10"),
        (np.zeros((3, 8, 8), np.uint8), IMAGE, r"has shape \(3, 8, 8\), but .* says \(8, 8, 3\)"),
        (np.float32(1), FLOATS, r"has shape \(\), but .* says \(3,\)"),
        (np.ones(1), FLOATS, r"has shape \(1,\)"),
        (["a", "b", "c"], FLOATS, "no numbers"),
        ([[1], [2, 3], 4], FLOATS, "is no array of numbers"),
        (None, FLOATS, "has shape"),
        (4, spaces.Discrete(3), r"is 4, outside of \[0\] to \[2\]"),
        (-1, spaces.Discrete(3), "is -1, outside"),
        (0, spaces.Discrete(3, start=1), r"outside of \[1\] to \[3\]"),
        ([2, 0], spaces.MultiDiscrete([2, 3]), r"is \[2, 0\], outside of \[0, 0\] to \[1, 2\]"),
        ("left", spaces.Discrete(3), "no whole number"),
        ({"a": GOOD}, spaces.Dict({"a": FLOATS, "b": FLOATS}), "'b' is missing"),
        (GOOD, spaces.Dict({"a": FLOATS}), "'a' is missing"),
        (7, spaces.Text(9), "is a int, no text"),
    ],
)
@pytest.mark.parametrize("later", [False, True])
def test_an_observation_that_is_none_of_the_space(obs: Any, space: Any, message: str, later: bool) -> None:
    good = space.sample()
    env = Scripted((good if later else obs, {}), (obs, 1.0, False, False, {}), obs=space)
    with pytest.raises(EnvContractError, match=message):
        played(env)


@pytest.mark.parametrize(
    "obs", [GOOD.tolist(), GOOD.astype(np.float64), GOOD.astype(np.int64), GOOD.astype(">f4"), tuple(GOOD)]
)
def test_other_types_with_the_same_numbers_are_taken(obs: Any) -> None:
    assert played(Scripted((GOOD, {}), (obs, 1.0, False, False, {})))[1]["obs"].tolist() == [1, 2, 3]


def test_whole_numbers_of_another_type_make_an_image() -> None:
    pixels = image(0, 255, np.uint8)
    _, row = played(Scripted((pixels, {}), (pixels.astype(np.float64), 1.0, False, False, {}), obs=IMAGE))
    assert np.array_equal(row["obs"], pixels.transpose(2, 0, 1))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Dict({"a": spaces.Dict({"b": FLOATS}), "a/b": FLOATS}),
        spaces.Dict({"x": spaces.Dict({ACTION_MASK: FLOATS}), ACTION_MASK: FLOATS}),
        spaces.Dict({"": FLOATS, "obs": FLOATS}),
    ],
)
def test_two_observations_of_one_name_are_refused(space: Any) -> None:
    with pytest.raises(EnvError, match="two observations would both be called"):
        ObsWriter(space)


@pytest.mark.parametrize(
    ("shape", "pixel_format", "hwc"),
    [
        ((84, 84, 6), "CHW", True),
        ((84, 84, 9), "CHW", True),
        ((96, 64, 12), "CHW", True),
        ((9, 84, 84), "HWC", False),
        ((12, 64, 96), "HWC", False),
        ((7, 7, 3), "CHW", True),
        ((3, 7, 7), "HWC", False),
        ((4, 84, 84), "HWC", False),
        ((9, 10, 7), "HWC", True),
        ((9, 10, 7), "CHW", False),
    ],
)
def test_stacks_of_images_have_their_channels_where_they_are(shape: Any, pixel_format: Any, hwc: bool) -> None:
    assert is_hwc(shape, pixel_format) is hwc


class MissionSpace(spaces.Space[str]):
    """As some grid worlds have it: a space of sentences that is a class of its own."""

    def sample(self, *args: Any) -> str:
        return "get to the green goal square"


@pytest.mark.parametrize("space", [spaces.Text(99), MissionSpace()])
def test_a_text_is_a_bag_of_hashed_words(space: Any) -> None:
    writer = ObsWriter(spaces.Dict({"mission": space}))
    assert writer.specs["mission"].shape == (TEXT_NUMBERS,)
    row = {"mission": np.full(TEXT_NUMBERS, 7, np.float32)}
    seen = []
    for text in ("go to the red ball", "Go to the RED ball!", "go to the blue ball", ""):
        writer.write({"mission": text}, row)
        seen.append(row["mission"].tolist())
    assert seen[0] == seen[1] != seen[2]
    assert set(seen[3]) == {0.0}
    # Written down, so that trained policies find the same numbers in every version.
    assert np.flatnonzero(hashed_words("red ball")).tolist() == [15, 27]


@pytest.mark.parametrize(
    ("mask", "value", "actions", "expected"),
    [
        (spaces.Dict({"inner": spaces.Dict({ACTION_MASK: spaces.MultiBinary(3)})}), None, spaces.Discrete(3), None),
        (
            spaces.Dict({ACTION_MASK: spaces.Tuple((spaces.MultiBinary(2), spaces.Box(0, 1, (3,), np.float32)))}),
            {ACTION_MASK: ([1, 0], np.array([0.0, 0.5, 256.0]))},
            spaces.MultiDiscrete([2, 3]),
            [1, 0, 0, 1, 1],
        ),
    ],
)
def test_a_mask_is_a_mask_wherever_it_lies(mask: Any, value: Any, actions: Any, expected: Any) -> None:
    space = spaces.Dict({"seen": FLOATS, **mask.spaces})
    value = {"inner": {ACTION_MASK: np.array([0, 1, 256])}} if value is None else value
    obs = {"seen": GOOD, **value}
    env = Scripted((obs, {}), (obs, 1.0, False, False, {}), obs=space, actions=actions)
    adapted = wrap_gymnasium(env, EnvConfig())
    rows = adapted.spec.empty_rows()
    adapted.reset(rows)
    assert rows[0][ACTION_MASK].tolist() == (expected or [0, 1, 1])


def test_a_mask_of_another_length_is_refused() -> None:
    space = spaces.Dict({"seen": FLOATS, ACTION_MASK: spaces.MultiBinary(4)})
    with pytest.raises(EnvError, match=r"must be int8 of shape \(2,\)"):
        wrap_gymnasium(Scripted(None, obs=space), EnvConfig())


WHOLE = (np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64)
REAL = (np.float16, np.float32, np.float64, np.longdouble)
BOXES = [
    *[spaces.Box(np.iinfo(d).min, np.iinfo(d).max, (2,), d) for d in WHOLE],
    *[spaces.Box(np.iinfo(d).min, 3, (2,), d) for d in WHOLE],
    *[spaces.Box(2, 2, (2,), d) for d in WHOLE],
    *[
        spaces.Box(np.full(2, low, d), np.full(2, high, d), (2,), d)
        for d in REAL
        for low, high in ((-0.1, 0.1), (-np.pi, np.pi), (0, 0.7), (-np.inf, np.inf), (0.1, 0.1), (-np.inf, 0.3))
    ],
    *[spaces.Box(np.finfo(d).min, np.finfo(d).max, (2,), d) for d in REAL],
]
NUMBERS = (-np.inf, -3.4e38, -1e19, -(2.0**31), -7.3, -np.pi, -0.1, 0, 0.1, 0.5, 0.7, np.pi, 2.0**31, 2.0**32, 2.0**53,
           2.0**63, 2.0**64, 1e30, 3.4e38, np.inf, np.nan, 127.5)  # fmt: skip


@pytest.mark.parametrize("box", BOXES, ids=str)
def test_continuous_actions_lie_in_the_box(box: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, decode = action_decoder(box)
        for number in NUMBERS:
            action = decode(np.full(2, number, np.float32))
            assert box.contains(action), (number, action)
