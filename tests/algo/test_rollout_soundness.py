"""Numbers that are none, from environments: they cost the rows of their episode and nothing else, and are told."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sf_algo.envs.spec import ACTION_MASK, PLAIN_OBS, ActionSpec, Discrete, Env, EnvSpec, ObsRow, ObsSpec, StepResult
from sf_algo.errors import EnvContractError, WorkerError
from sf_algo.rollout.env_set import EnvFault
from sf_algo.rollout.soundness import all_finite
from sf_algo.sampling.faults import FaultLog
from sf_algo.testing import CountingEnv
from tests.algo.split_harness import Harness, obs_column
from tests.algo.test_rollout_agents import SelfResettingEnv

NAN = math.nan


class Spoiled(CountingEnv):
    """A CountingEnv in which `spoil(env, rows, rewards)` may change what a step or (rewards None) a reset gives."""

    def __init__(self, e: int, spoil: Callable[..., None], *, length: int = 6, num_agents: int = 1) -> None:
        super().__init__(env_index=e, length=length, num_agents=num_agents)
        self._spoil = spoil
        self.active = np.ones(num_agents, np.bool_)

    @property
    def at(self) -> tuple[int, int, int]:
        """(environment, episode, step)"""
        return self._env_index, self._episode, self._step

    def reset(self, out: Sequence[ObsRow], *, seed: int | None = None) -> None:
        super().reset(out, seed=seed)
        self._spoil(self, out, None)

    def step(self, actions: NDArray[np.float32], out: Sequence[ObsRow]) -> StepResult:
        result = super().step(actions, out)
        result = result._replace(rewards=np.array(result.rewards))
        self._spoil(self, out, result.rewards)
        return result._replace(active=self.active)


def spoiled(spoil: Callable[..., None], **options: int) -> Harness:
    harness = Harness(
        lambda e: Spoiled(e, spoil, length=options.get("length", 6), num_agents=options.get("num_agents", 1)),
        num_envs=2,
        rollout=8,
    )
    harness.open()
    return harness


def reward_at(*where: int, value: float = NAN) -> Callable[..., None]:
    def spoil(env: Spoiled, rows: Sequence[ObsRow], rewards: NDArray[np.float32] | None) -> None:
        if rewards is not None and env.at == where:
            rewards[0] = value

    return spoil


def obs_at(*where: int, value: float = NAN) -> Callable[..., None]:
    def spoil(env: Spoiled, rows: Sequence[ObsRow], rewards: NDArray[np.float32] | None) -> None:
        if env.at == where:
            rows[0][PLAIN_OBS][3] = value

    return spoil


def nothing(env: Spoiled, rows: Sequence[ObsRow], rewards: NDArray[np.float32] | None) -> None: ...


@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf])
@pytest.mark.parametrize("spoil", [reward_at, obs_at])
def test_an_episode_is_given_up_and_the_next_one_begins(
    spoil: Callable[..., Callable[..., None]], value: float
) -> None:
    harness = spoiled(spoil(1, 0, 4, value=value))
    slot, untouched = harness.fill_slot(), spoiled(nothing).fill_slot()
    # Rows 0 to 3 belong to the episode; its fourth step is the damaged one.
    assert slot["valid"][:, 1].tolist() == [False] * 4 + [True] * 4
    assert slot["reset_after"][:, 1].tolist() == [False] * 3 + [True] + [False] * 4
    assert not slot["terminated"][:, 1].any()
    assert slot["rewards"][3, 1] == 0
    assert slot["rnn_states"][4, 1].tolist() == [0, 0]
    assert obs_column(slot, 1)[4] == [1, 1, 0, 0]
    for name in slot:
        assert np.isfinite(slot[name]).all()
        np.testing.assert_array_equal(slot[name][:, 0], untouched[name][:, 0], err_msg=name)
    assert all(report.reward == 15 for report in harness.split.finished), "no report of the one given up"
    (fault,) = harness.faults
    assert fault.env_index == 1
    assert str(value) in fault.notice


def test_rows_of_earlier_episodes_stay() -> None:
    harness = spoiled(reward_at(0, 1, 1), length=3)
    slot = harness.fill_slot()
    assert slot["valid"][:, 0].tolist() == [True, True, True, False, True, True, True, True]
    assert slot["terminated"][:, 0].tolist() == [False, False, True, False, False, False, True, False]
    # Twice the first episode, the truncated second one of the other environment, and the one that came in between.
    assert [(r.reward, r.num_steps) for r in harness.split.finished] == [(3, 3), (3, 3), (12, 3), (15, 3)]


@pytest.mark.parametrize("spoil", [reward_at, obs_at])
@pytest.mark.parametrize("episode", [0, 1])
def test_the_last_step_of_an_episode(spoil: Callable[..., Callable[..., None]], episode: int) -> None:
    """Episode 0 terminates: its final observation is nobody's. Episode 1 is truncated: its value would count."""
    harness = spoiled(spoil(0, episode, 3), length=3)
    slot = harness.fill_slot()
    if (spoil, episode) == (obs_at, 0):
        assert slot["valid"][:3, 0].all()
        assert not harness.faults
        return
    assert not slot["valid"][3 * episode : 3 * episode + 3, 0].any()
    assert not slot["truncated"][: 3 * episode + 3, 0].any()
    assert slot["reset_after"][3 * episode + 2, 0]
    assert slot["valid"][3 * episode + 3 : 3 * episode + 6, 0].all(), "no filler row"
    assert len(harness.faults) == 1


def test_a_first_observation_that_is_none_makes_the_environment_anew() -> None:
    made: list[Spoiled] = []

    def make(e: int) -> Env:
        made.append(Spoiled(e, obs_at(0, 1, 0) if len(made) == 1 else nothing, length=3))
        return made[-1]

    harness = Harness(make, num_envs=1, rollout=8)
    harness.open()
    slot = harness.fill_slot()
    assert made[1].closed
    assert len(made) == 3  # one for the spec
    assert slot["valid"].all()
    assert np.isfinite(slot["obs/obs"]).all()
    assert slot["terminated"][2, 0], "the episode before it has ended as it should"


def test_what_comes_too_often_ends_the_training_with_the_reason() -> None:
    def always(env: Spoiled, rows: Sequence[ObsRow], rewards: NDArray[np.float32] | None) -> None:
        if rewards is not None and env.at[2] == 5:
            rewards[:] = NAN

    harness = spoiled(always)

    def go_on() -> None:
        for _ in range(5):
            harness.fill_slot()
            harness.next_slot()

    with pytest.raises(WorkerError, match=r"environment 0 gave numbers that are not finite 3 times.*its reward is nan"):
        go_on()


def test_rare_ones_do_not() -> None:
    def rarely(env: Spoiled, rows: Sequence[ObsRow], rewards: NDArray[np.float32] | None) -> None:
        if rewards is not None and env.at[0] == 0 and env.at[1:] == (env.at[1] // 20 * 20 + 7, 2):
            rows[0][PLAIN_OBS][:] = NAN

    harness = spoiled(rarely, length=3)
    for _ in range(150):
        assert np.isfinite(harness.fill_slot()["obs/obs"]).all()
        harness.next_slot()
    counts = [fault.count for fault in harness.faults]
    assert counts[:4] == [1, 2, 4, 8], "told ever more rarely"


def test_agents_who_are_out_of_the_game_may_show_anything() -> None:
    def out_of_it(env: Spoiled, rows: Sequence[ObsRow], rewards: NDArray[np.float32] | None) -> None:
        if rewards is not None and env.at[2] in (2, 3, 4):
            env.active = np.array([True, False, True])
            rewards[1] = NAN
            rows[1][PLAIN_OBS][:2] = NAN
        else:
            env.active = np.array([True, True, True])

    harness = spoiled(out_of_it, num_agents=3)
    slot = harness.fill_slot()
    assert not harness.faults
    for name in slot:
        assert np.isfinite(slot[name]).all(), name
    assert slot["valid"][:6, 1].tolist() == [True, False, False, False, True, True]
    assert slot["valid"][:, 0].all()


def test_all_agents_of_the_environment_share_the_loss() -> None:
    harness = spoiled(reward_at(0, 0, 3), num_agents=3)
    slot = harness.fill_slot()
    assert (slot["valid"][:, :3] == np.array([False] * 3 + [True] * 5)[:, None]).all()
    assert slot["valid"][:, 3:].all()


class Masked(CountingEnv):
    """Its mask forbids everything in step 2."""

    def __init__(self) -> None:
        super().__init__(length=5)
        mask = ObsSpec(shape=(3,), dtype=np.dtype(np.int8))
        self.spec = EnvSpec(obs={**self.spec.obs, ACTION_MASK: mask}, actions=ActionSpec((Discrete(3),)))

    def _write(self, out: Sequence[ObsRow], actions: NDArray[np.float32]) -> None:
        super()._write(out, actions)
        out[0][ACTION_MASK][:] = 0 if self._step == 2 else 1


def test_masks_that_forbid_everything_are_told_and_cost_nothing() -> None:
    harness = Harness(lambda e: Masked(), num_envs=1, rollout=8)
    harness.open()
    assert harness.fill_slot()["valid"].sum() >= 7
    assert [(fault.count, "forbids every choice" in fault.notice) for fault in harness.faults] == [(1, True), (2, True)]


def test_a_breach_of_the_interface_ends_the_training_at_once() -> None:
    def breach(env: Spoiled, rows: Sequence[ObsRow], rewards: NDArray[np.float32] | None) -> None:
        if rewards is not None:
            raise EnvContractError("one line")

    with pytest.raises(EnvContractError, match=r"^one line$"):
        spoiled(breach).fill_slot()


@pytest.mark.parametrize("shape", [(1,), (64, 4), (3, 2, 5)])
def test_finite_means_finite(shape: tuple[int, ...]) -> None:
    numbers = np.ones(shape, np.float32)
    assert all_finite(numbers)
    numbers.flat[-1] = 3e38  # its square is no 32-bit number
    assert all_finite(numbers)
    for bad in (NAN, math.inf, -math.inf):
        numbers.flat[0] = bad
        assert not all_finite(numbers)


def test_notices_do_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    log = FaultLog(clock=lambda: now[0])
    for count in range(1, 5):
        log.add("worker 1", EnvFault(env_index=7, episode=3, notice="its reward is nan", count=count))
        now[0] += 9.0
    assert len(caplog.messages) == 1
    assert caplog.messages[0] == "environment 7 of worker 1: its reward is nan"
    log.add("worker 1", EnvFault(env_index=7, episode=3, notice="its reward is nan", count=5))
    assert caplog.messages[1].endswith("(5 times so far); 3 more notices of environments since the last one told")


class Lanes(SelfResettingEnv):
    """Agent 1's observation (`spoil` "obs") or reward ("reward") is none in step 1 of its episodes 1, 4, 7..."""

    def __init__(self, spoil: str) -> None:
        super().__init__()
        self._spoil = spoil

    def step(self, actions: NDArray[np.float32], out: Any) -> StepResult:  # type: ignore[override]
        result = super().step(actions, out)
        if self._episodes[1] % 3 == 1 and self._at[1] == 1:
            if self._spoil == "obs":
                out[PLAIN_OBS][1, 3] = NAN
            else:
                result.rewards[1] = NAN
        return result


@pytest.mark.parametrize("spoil", ["obs", "reward"])
def test_an_agent_that_is_reset_by_its_environment_is_left_out_until_then(spoil: str) -> None:
    harness = Harness(lambda e: Lanes(spoil), num_envs=1, rollout=9)
    harness.open()
    slot = harness.fill_slot()
    untouched = Harness(lambda e: SelfResettingEnv(), num_envs=1, rollout=9)
    untouched.open()
    expected = untouched.fill_slot()
    # Agent 1: two steps and a filler row for each episode. Episode 1 is given up in its first step.
    assert slot["valid"][:, 1].tolist() == [True, True, False, False, False, False, True, True, False]
    assert slot["reset_after"][:, 1].tolist() == expected["reset_after"][:, 1].tolist()
    for name in slot:
        assert np.isfinite(slot[name]).all()
        np.testing.assert_array_equal(slot[name][:, [0, 2]], expected[name][:, [0, 2]], err_msg=name)
    mine = [r for r in harness.split.finished if r.num_steps == 2]
    assert len(mine) == len([r for r in untouched.split.finished if r.num_steps == 2]) - 1
    assert [fault.count for fault in harness.faults] == [1]
