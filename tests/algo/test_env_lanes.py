"""Vector environments as agents: what each mode of automatic reset makes of ends and final observations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from sf_algo.envs.factory import EnvSections, make_env
from sf_algo.envs.lanes import VectorLanes, is_vector_env, lanes
from sf_algo.envs.space_blocks import BlockWriter, batch_decoder
from sf_algo.envs.spaces import ObsWriter, action_decoder
from sf_algo.envs.spec import Env, EnvPlacement, StepResult
from sf_algo.errors import EnvContractError, EnvError
from tests.algo.env_cases import EverySpace
from tests.algo.split_harness import Harness


class Counter(gymnasium.Env[Any, Any]):
    """Observation: [lane, episode, step]; the reward is the step. Even lanes terminate after 2 steps, odd ones are
    truncated after 3."""

    def __init__(self, lane: int) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.lane, self.episode, self.at = lane, -1, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.episode, self.at = self.episode + 1, 0
        return self._obs(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.at += 1
        terminated, truncated = self.lane % 2 == 0 and self.at == 2, self.lane % 2 == 1 and self.at == 3
        info = {"episode_extra_stats": {"number": float(self.episode)}} if terminated or truncated else {}
        return self._obs(), float(self.at), terminated, truncated, info

    def _obs(self) -> NDArray[np.float32]:
        return np.array([self.lane, self.episode, self.at], np.float32)


def counters(mode: AutoresetMode, count: int = 2) -> SyncVectorEnv:
    return SyncVectorEnv([lambda lane=lane: Counter(lane) for lane in range(count)], autoreset_mode=mode)


def make_counters(placement: EnvPlacement) -> SyncVectorEnv:
    return counters(AutoresetMode.NEXT_STEP)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_final_observations_are_seen_and_no_step_is_learned_from_twice(mode: AutoresetMode) -> None:
    harness = Harness(lambda e: lanes(counters(mode)), num_envs=1, rollout=9)
    harness.open()
    slot = harness.fill_slot()
    seen = [[tuple(row[1:3]) for row in slot["obs/obs"][:, lane].tolist()] for lane in range(2)]
    # A truncation always leaves a row with the final observation, whose value is bootstrapped.
    assert seen[1][:5] == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0) if mode is AutoresetMode.NEXT_STEP else (1, 1)]
    assert slot["truncated"][:4, 1].tolist() == [False, False, True, False]
    assert slot["valid"][:4, 1].tolist() == [True, True, True, False]
    assert slot["reset_after"][:4, 1].tolist() == [False, False, False, True]
    if mode is AutoresetMode.NEXT_STEP:
        assert seen[0][:4] == [(0, 0), (0, 1), (0, 2), (1, 0)]
        assert slot["terminated"][:4, 0].tolist() == [False, True, False, False]
        assert slot["valid"][:4, 0].tolist() == [True, True, False, True]
        assert slot["reset_after"][:4, 0].tolist() == [False, False, True, False]
    else:
        assert seen[0][:4] == [(0, 0), (0, 1), (1, 0), (1, 1)]
        assert slot["terminated"][:4, 0].tolist() == [False, True, False, True]
        assert slot["valid"][:, 0].all()
    reports = harness.split.finished
    assert {report.reward for report in reports} == {3.0, 6.0}
    assert all(report.stats.keys() == {"number"} for report in reports)
    numbers = [report.stats["number"] for report in reports if report.reward == 3.0]
    assert numbers == sorted(numbers) == list(range(len(numbers)))


def test_a_final_observation_that_is_lost_is_not_bootstrapped() -> None:
    class Forgetful(VectorLanes):
        def _show_final(self, info: Any, truncated: Any, out: Any) -> Any:
            return super()._show_final({}, truncated, out)

    harness = Harness(lambda e: Forgetful(counters(AutoresetMode.SAME_STEP)), num_envs=1, rollout=4)
    harness.open()
    slot = harness.fill_slot()
    assert not slot["truncated"].any()
    assert slot["valid"].all()
    assert slot["reset_after"][:, 1].tolist() == [False, False, True, False]


class OnlyDlpack:
    """An array of a library that numpy knows nothing of."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array

    def __dlpack__(self, **how: Any) -> Any:
        return self._array.__dlpack__(**how)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()

    def __getitem__(self, index: int) -> OnlyDlpack:
        return OnlyDlpack(self._array[index])


class Foreign:
    """Counters whose arrays are those of another library."""

    def __init__(self, mode: AutoresetMode, convert: Callable[[Any], Any]) -> None:
        self._env, self._convert = counters(mode), convert
        self.num_envs, self.metadata = self._env.num_envs, self._env.metadata
        self.single_observation_space = self._env.single_observation_space
        self.single_action_space = self._env.single_action_space

    def reset(self, **how: Any) -> Any:
        obs, info = self._env.reset(**how)
        return self._convert(obs), info

    def step(self, actions: Any) -> Any:
        obs, *numbers, info = self._env.step(actions)
        return (self._convert(obs), *(self._convert(array) for array in numbers), info)

    def close(self) -> None:
        self._env.close()


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
@pytest.mark.parametrize(
    "convert", [lambda a: torch.as_tensor(a, dtype=torch.float64).requires_grad_(), OnlyDlpack], ids=["torch", "dlpack"]
)
def test_arrays_of_other_libraries_are_as_good(mode: AutoresetMode, convert: Callable[[Any], Any]) -> None:
    filled = []
    for env in (counters(mode), Foreign(mode, convert)):
        assert is_vector_env(env)
        harness = Harness(lambda e, env=env: lanes(env), num_envs=1, rollout=9)  # type: ignore[misc]
        harness.open()
        filled.append(harness.fill_slot())
    for name in ("obs/obs", "rewards", "terminated", "truncated", "valid"):
        np.testing.assert_array_equal(filled[0][name], filled[1][name], name)


def test_blocks_hold_what_rows_would_hold() -> None:
    space = EverySpace().observation_space
    space.seed(3)
    batch = [space.sample() for _ in range(4)]
    rows = ObsWriter(space)
    expected = [{name: spec.zeros() for name, spec in rows.specs.items()} for _ in batch]
    for obs, row in zip(batch, expected, strict=True):
        rows.write(obs, row)
    vector = SyncVectorEnv([EverySpace] * 4)
    vector.observation_space.seed(0)
    blocks = BlockWriter(space)
    block = {name: spec.zeros(4) for name, spec in blocks.specs.items()}
    from gymnasium.vector.utils import concatenate, create_empty_array

    blocks.write(concatenate(space, batch, create_empty_array(space, n=4)), block)
    assert blocks.specs == rows.specs
    for name, array in block.items():
        np.testing.assert_array_equal(array, np.stack([row[name] for row in expected]), name)


def test_every_space_of_actions_reaches_its_lane() -> None:
    vector = SyncVectorEnv([EverySpace] * 3)
    env = lanes(vector)
    block = {name: spec.zeros(3) for name, spec in env.spec.obs.items()}
    env.reset(block, seed=1)
    actions = env.spec.actions.sample(np.random.default_rng(0), 3)
    env.step(actions, block)
    _, decode = action_decoder(EverySpace().action_space)
    for lane, row in zip(vector.envs, actions, strict=True):
        expected = decode(row)
        given = lane.unwrapped.taken[0]  # type: ignore[attr-defined]
        assert lane.action_space.contains(given)
        np.testing.assert_allclose(given["aim"], expected["aim"])
        assert given["moves"] == expected["moves"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bound", [0.1, float(np.pi), 1e-9])
def test_batches_of_actions_stay_in_their_box(dtype: Any, bound: float) -> None:
    space = spaces.Box(np.full(2, -bound), np.full(2, bound), dtype=dtype)
    _, decode = batch_decoder(space, 3)
    for row in decode(np.array([[9.0, -9.0], [bound, -bound], [0.0, 0.0]], np.float32)):
        assert space.contains(row)


def test_a_maker_may_return_a_vector_environment() -> None:
    env = make_env(f"{__name__}:make_counters", EnvSections())
    assert isinstance(env, Env)
    assert (env.spec.num_agents, env.spec.autoreset) == (2, True)
    env.close()


def test_an_unknown_mode_and_a_wrong_shape_are_told() -> None:
    vector = counters(AutoresetMode.NEXT_STEP)
    vector.metadata = {"autoreset_mode": "sometimes"}
    with pytest.raises(EnvError, match="autoreset_mode='sometimes'"):
        lanes(vector)
    env = lanes(counters(AutoresetMode.NEXT_STEP))
    with pytest.raises(EnvError, match=r"has shape \(3,\), but the observation_space says \(2, 3\)"):
        env._writer.write(np.zeros(3), {"obs": np.zeros((2, 3), np.float32)})


@pytest.mark.parametrize(("field", "value"), [(1, 1.0), (1, np.ones(3)), (2, False), (3, np.zeros((2, 1), bool))])
def test_one_number_for_all_lanes_is_told(field: int, value: Any) -> None:
    vector = counters(AutoresetMode.NEXT_STEP)
    env = lanes(vector)
    block = {name: spec.zeros(2) for name, spec in env.spec.obs.items()}
    env.reset(block)
    step = vector.step

    def spoiled(actions: Any) -> Any:
        answer = list(step(actions))
        answer[field] = value
        return tuple(answer)

    vector.step = spoiled
    with pytest.raises(EnvContractError, match="one for each of its 2 environments is expected"):
        env.step(np.zeros((2, env.spec.actions.width), np.float32), block)


def test_atari_s_own_vector_environment() -> None:
    pytest.importorskip("ale_py")
    from ale_py.vector_env import AtariVectorEnv

    env = lanes(AtariVectorEnv("pong", num_envs=2), frameskip=4)
    assert env.spec.obs["obs"].shape == (4, 84, 84)
    block = {name: spec.zeros(2) for name, spec in env.spec.obs.items()}
    env.reset(block, seed=1)
    rng = np.random.default_rng(0)
    results: list[StepResult] = [env.step(env.spec.actions.sample(rng, 2), block) for _ in range(50)]
    assert block["obs"].any()
    assert results[-1].rewards.shape == (2,)
    env.close()
