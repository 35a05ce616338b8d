"""The gymnasium adapter: spaces, frame skip and stack, ends of episodes, statistics."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from sf_algo.config import EnvConfig
from sf_algo.envs.gymnasium_env import GymnasiumEnv, make_gymnasium, wrap_gymnasium
from sf_algo.envs.spaces import ObsWriter, action_decoder
from sf_algo.envs.spec import Box, Discrete, ObsSpec
from sf_algo.errors import EnvError
from tests.algo.env_cases import EverySpace

FLOAT, BYTE = np.dtype(np.float32), np.dtype(np.uint8)


Script = list[tuple[Any, float, bool, bool, dict[str, Any]]]


class Scripted(gymnasium.Env[Any, Any]):
    """Plays back (observation, reward, terminated, truncated, info) and remembers the actions."""

    def __init__(self, script: Script, **space: Any) -> None:
        self.observation_space = space.get("obs", spaces.Box(-np.inf, np.inf, (1,), np.float32))
        self.action_space = space.get("actions", spaces.Discrete(2))
        self._script = script
        self._next = 0
        self.actions: list[Any] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self._next = 0
        return self.observation_space.sample() * 0, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.actions.append(action)
        self._next += 1
        return self._script[self._next - 1]


def step(value: float, reward: float = 1.0, **flags: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
    obs = np.array([value], np.float32)
    return obs, reward, flags.pop("terminated", False), flags.pop("truncated", False), flags


def opened(env: gymnasium.Env[Any, Any], **cfg: Any) -> tuple[GymnasiumEnv, list[dict[str, Any]]]:
    adapted = wrap_gymnasium(env, EnvConfig(**cfg))
    rows = adapted.spec.empty_rows()
    adapted.reset(rows)
    return adapted, rows


ZERO = np.zeros((1, 1), np.float32)


def test_every_kind_of_observation_has_its_array_form() -> None:
    assert ObsWriter(EverySpace().observation_space).specs == {
        "camera": ObsSpec(shape=(3, 6, 8), dtype=BYTE),
        "depth": ObsSpec(shape=(1, 6, 8), dtype=BYTE),
        "memory": ObsSpec(shape=(5,), dtype=BYTE),
        "pose": ObsSpec(shape=(4,), dtype=FLOAT),
        "scalar": ObsSpec(shape=(1,), dtype=FLOAT),
        "count": ObsSpec(shape=(2,), dtype=FLOAT),
        "which": ObsSpec(shape=(3,), dtype=FLOAT),
        "several": ObsSpec(shape=(5,), dtype=FLOAT),
        "flags": ObsSpec(shape=(4,), dtype=FLOAT),
        "pair/0": ObsSpec(shape=(2,), dtype=FLOAT),
        "pair/1": ObsSpec(shape=(1,), dtype=FLOAT),
        "action_mask": ObsSpec(shape=(5,), dtype=np.dtype(np.int8)),
    }


def test_observations_are_written_in_that_form() -> None:
    env = EverySpace()
    adapted, rows = opened(env)
    obs = env.observation_space.sample()
    adapted._writer.write(obs, rows[0])
    row = rows[0]
    assert np.array_equal(row["camera"], obs["camera"].transpose(2, 0, 1))
    assert np.array_equal(row["depth"][0], obs["depth"])
    assert np.array_equal(row["pose"], obs["pose"].astype(np.float32))
    assert row["which"].argmax() == obs["which"] - 1
    assert row["which"].sum() == 1
    assert row["several"][:2].argmax() == obs["several"][0]
    assert row["several"][2:].argmax() == obs["several"][1]
    assert row["pair/1"] == obs["pair"][1]
    assert np.array_equal(row["action_mask"], obs["action_mask"])


@pytest.mark.parametrize(
    ("shape", "pixel_format", "stored"),
    [
        ((64, 80, 3), "CHW", (3, 64, 80)),
        ((4, 84, 84), "HWC", (4, 84, 84)),
        ((9, 10, 7), "CHW", (9, 10, 7)),
        ((9, 10, 7), "HWC", (7, 9, 10)),
    ],
)
def test_the_channel_axis_is_found_or_else_told(shape: Any, pixel_format: Any, stored: Any) -> None:
    writer = ObsWriter(spaces.Box(0, 255, shape, np.uint8), pixel_format=pixel_format)
    assert writer.specs["obs"].shape == stored


def test_actions_of_every_kind_come_out_as_the_environment_wants_them() -> None:
    env = EverySpace()
    adapted, rows = opened(env)
    assert adapted.spec.actions.components == (Box((-1.0, 0.0), (1.0, 2.0)), Discrete(3), Discrete(2))
    adapted.step(np.array([[-7.0, 1.5, 2.0, 1.0]], np.float32), rows)
    action = env.taken[0]
    assert action["aim"].dtype == np.float64
    assert action["aim"].tolist() == [-1.0, 1.5], "clipped to the bounds"
    assert action["moves"] == (7, 1), "Discrete(start=5)"
    assert env.action_space.contains(action)


@pytest.mark.parametrize(
    ("space", "row", "expected"),
    [
        (spaces.MultiDiscrete([3, 4], start=[1, 0]), [2, 3], [3, 3]),
        (spaces.MultiDiscrete(np.array([[2, 2], [3, 3]])), [0, 1, 2, 0], [[0, 1], [2, 0]]),
        (spaces.MultiBinary(3), [1, 0, 1], [1, 0, 1]),
        (spaces.Box(-1, 1, (2, 2), np.float32), [0, 2, -2, 0.5], [[0, 1], [-1, 0.5]]),
        (spaces.Box(0, 9, (2,), np.int64), [3.6, 99], [4, 9]),
    ],
)
def test_arrays_of_actions_keep_their_shape_and_dtype(space: Any, row: Any, expected: Any) -> None:
    _, decode = action_decoder(space)
    action = decode(np.array(row, np.float32))
    assert action.tolist() == expected
    assert space.contains(action)


def test_an_action_does_not_change_when_the_slot_is_overwritten() -> None:
    env = Scripted([step(1.0)], actions=spaces.Box(-1, 1, (2,), np.float32))
    adapted, rows = opened(env)
    actions = np.array([[0.25, 0.5]], np.float32)
    adapted.step(actions, rows)
    actions[:] = 9
    assert env.actions[0].tolist() == [0.25, 0.5]


def test_skipped_frames_add_up_and_stop_at_the_end() -> None:
    script = [step(1, 0.5), step(2, 0.25), step(3, 4.0), step(4, 1.0, truncated=True), step(5)]
    adapted, rows = opened(Scripted(script), env_frameskip=3)
    assert adapted.spec.frameskip == 3
    result = adapted.step(ZERO, rows)
    assert (result.rewards[0], rows[0]["obs"][0], result.episode) == (4.75, 3.0, None)
    result = adapted.step(ZERO, rows)
    assert (result.rewards[0], rows[0]["obs"][0]) == (1.0, 4.0), "the last observation before the limit"
    assert (bool(result.terminated[0]), bool(result.truncated[0])) == (False, True)


def test_a_stack_repeats_the_first_image_and_then_shifts() -> None:
    def image(value: int) -> Any:
        return np.full((6, 5, 3), value, np.uint8)

    script: Script = [(image(k), 0.0, False, False, {}) for k in (1, 2, 3)]
    env = Scripted(script, obs=spaces.Box(0, 255, (6, 5, 3), np.uint8))
    adapted, rows = opened(env, env_framestack=2)
    stack = rows[0]["obs"]
    assert stack.shape == (6, 6, 5)
    assert (stack[:3].max(), stack[3:].max()) == (0, 0)
    for expected in ((0, 1), (1, 2), (2, 3)):
        adapted.step(ZERO, rows)
        assert ((stack[:3] == expected[0]).all(), (stack[3:] == expected[1]).all()) == (True, True)
    adapted.reset(rows)
    assert stack.max() == 0, "nothing of the last episode is left"


def test_stacking_without_an_image_is_refused() -> None:
    with pytest.raises(EnvError, match="--env_framestack"):
        wrap_gymnasium(Scripted([]), EnvConfig(env_framestack=4))


def test_terminated_and_truncated_are_kept_apart() -> None:
    adapted, rows = opened(Scripted([step(1, terminated=True), step(2, truncated=True)]))
    first = adapted.step(ZERO, rows)
    assert (bool(first.terminated[0]), bool(first.truncated[0])) == (True, False)
    second = adapted.step(ZERO, rows)
    assert (bool(second.terminated[0]), bool(second.truncated[0])) == (False, True)


def test_the_registered_time_limit_truncates() -> None:
    env = make_gymnasium("MountainCar-v0", EnvConfig())
    rows = env.spec.empty_rows()
    env.reset(rows, seed=0)
    results = [env.step(ZERO + 1, rows).truncated[0].copy() for _ in range(200)]
    assert [bool(truncated) for truncated in results] == [False] * 199 + [True]


def test_statistics_come_with_the_last_step_only() -> None:
    info: dict[str, Any] = {
        "episode_extra_stats": {"kills": 3, "map": [1, 2]},
        "true_objective": 7,
        "is_success": True,
    }
    adapted, rows = opened(Scripted([step(1, **info), step(2, terminated=True, **info)]))
    assert adapted.step(ZERO, rows).episode is None
    assert adapted.step(ZERO, rows).episode == {"kills": 3.0, "true_reward": 7.0, "is_success": 1.0}


def test_an_inactive_step_is_marked() -> None:
    adapted, rows = opened(Scripted([step(1, is_active=False), step(2)]))
    assert not adapted.step(ZERO, rows).active[0]
    assert adapted.step(ZERO, rows).active[0]


def test_a_wrong_observation_shape_is_one_clear_line() -> None:
    env = Scripted([])
    env.observation_space = spaces.Box(-1, 1, (3,), np.float32)
    adapted = wrap_gymnasium(env, EnvConfig())
    env.observation_space = spaces.Box(-1, 1, (1,), np.float32)
    with pytest.raises(EnvError, match=r"'obs' has shape \(1,\).*says \(3,\)"):
        adapted.reset(adapted.spec.empty_rows())


def test_spaces_without_an_array_form_are_named() -> None:
    with pytest.raises(EnvError, match="'note' is a Sequence space"):
        ObsWriter(spaces.Dict({"note": spaces.Sequence(spaces.Discrete(5))}))
    with pytest.raises(EnvError, match="action space"):
        action_decoder(spaces.Text(5))
