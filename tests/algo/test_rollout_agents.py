"""What a split writes into its slots where agents end one by one, or begin anew by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sf_algo.envs.spec import PLAIN_OBS, Env, ObsBlock, ObsRow, StepResult
from sf_algo.testing import CountingEnv
from tests.algo.split_harness import Harness, obs_column


class OneByOneEnv(CountingEnv):
    """Agent a ends at step ends[a]; `truncates` are those that do so by truncation."""

    def __init__(self, ends: list[int], truncates: tuple[int, ...] = ()) -> None:
        super().__init__(num_agents=len(ends))
        self._ends = np.array(ends)
        self._cut = np.isin(np.arange(len(ends)), truncates)

    def step(self, actions: NDArray[np.float32], out: Sequence[ObsRow]) -> StepResult:
        self._step += 1
        self._write(out, actions[:, 0])
        ended = self._ends == self._step
        over = self._step >= self._ends.max()
        stats = {"last": np.array(self._ends, np.float64)} if over else None
        return StepResult(np.ones(len(out), np.float32), ended & ~self._cut, ended & self._cut, self._active, stats)


def test_who_ends_first_waits_for_the_others() -> None:
    harness = Harness(lambda e: OneByOneEnv([3, 1]), num_envs=1, rollout=5)
    harness.open()
    slot = harness.fill_slot()
    assert slot["terminated"].T.tolist() == [[False, False, True, False, False], [True, False, False, True, False]]
    assert slot["valid"].T.tolist() == [[True] * 5, [True, False, False, True, False]]
    assert slot["reset_after"].T.tolist() == [[False, False, True, False, False]] * 2
    assert slot["rewards"][:, 1].tolist() == [1, 0, 0, 1, 0]
    assert [row[1:3] for row in obs_column(slot, 1)] == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    assert [(r.reward, r.num_steps, r.stats) for r in harness.split.finished] == [
        (3.0, 3, {"last": 3.0}),
        (1.0, 1, {"last": 1.0}),
    ]


def test_the_last_end_by_truncation_leaves_a_filler_row_for_all() -> None:
    harness = Harness(lambda e: OneByOneEnv([2, 1], truncates=(0, 1)), num_envs=1, rollout=4)
    harness.open()
    slot = harness.fill_slot()
    assert slot["truncated"].T.tolist() == [[False, True, False, False], [True, False, False, True]]
    assert slot["valid"].T.tolist() == [[True, True, False, True], [True, False, False, True]]
    assert slot["reset_after"].T.tolist() == [[False, False, True, False]] * 2
    assert [row[1:3] for row in obs_column(slot, 0)] == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]]


def test_ended_agents_stay_out_after_a_restore() -> None:
    def make() -> Harness:
        return Harness(lambda e: OneByOneEnv([6, 2]), num_envs=1, rollout=4, remember_actions=True)

    whole = make()
    whole.open()
    whole.act(), whole.act(), whole.act()
    state = whole.split.state()
    resumed = make()
    resumed.split.restore(state, 0)
    whole.act(), resumed.act()
    assert resumed.split.slot["valid"][:, 1].tolist() == [True, True, False, False]
    for name, array in whole.split.slot.items():
        np.testing.assert_array_equal(array, resumed.split.slot[name], name)


class SelfResettingEnv(CountingEnv):
    """Agent a's episodes have `lengths[a]` steps: agent 0's terminate and begin anew at once; agent 1's are truncated,
    with a step that shows the final observation; agent 2's are truncated and lose it."""

    lengths = (2, 2, 3)

    def __init__(self) -> None:
        super().__init__(num_agents=3)
        self.spec = replace(self.spec, autoreset=True)
        self.resets = 0

    def reset(self, out: ObsBlock, *, seed: int | None = None) -> None:  # type: ignore[override]
        self.resets += 1
        self._at = np.zeros(3, int)
        self._episodes = np.zeros(3, int)
        self._show(out)

    def step(self, actions: NDArray[np.float32], out: ObsBlock) -> StepResult:  # type: ignore[override]
        waiting = self._at == 2
        waiting &= np.array([False, True, False])
        self._at += 1
        ended = (self._at == self.lengths) & ~waiting
        restarted = ended & np.array([True, False, True]) | waiting
        self._at[restarted] = 0
        self._episodes[restarted] += 1
        self._show(out)
        return StepResult(
            np.ones(3, np.float32),
            ended & np.array([True, False, False]),
            ended & np.array([False, True, True]),
            ~waiting,
            {"number": self._episodes.astype(np.float64)} if ended.any() else None,
            restarted,
        )

    def _show(self, out: ObsBlock) -> None:
        out[PLAIN_OBS][:, 0] = self._episodes
        out[PLAIN_OBS][:, 1] = self._at


def test_agents_that_begin_anew_by_themselves() -> None:
    made: list[SelfResettingEnv] = []

    def make_env(e: int) -> Env:
        made.append(SelfResettingEnv())
        return made[-1]

    harness = Harness(make_env, num_envs=1, rollout=5)
    harness.open()
    slot = harness.fill_slot()
    shown = [[row[:2] for row in obs_column(slot, agent)] for agent in range(3)]
    assert shown[0] == [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1]]
    assert shown[1] == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    assert shown[2] == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    no, yes = False, True
    assert slot["terminated"].T.tolist() == [[no, yes, no, yes, no], [no] * 5, [no] * 5]
    # Of agent 2 there is no final observation whose value could be bootstrapped.
    assert slot["truncated"].T.tolist() == [[no] * 5, [no, yes, no, no, yes], [no] * 5]
    assert slot["valid"].T.tolist() == [[yes] * 5, [yes, yes, no, yes, yes], [yes] * 5]
    assert slot["reset_after"].T.tolist() == [[no, yes, no, yes, no], [no, no, yes, no, no], [no, no, yes, no, no]]
    assert slot["rnn_states"][:, 0, 0].tolist() == [0, 1, 0, 3, 0, 5]
    assert made[-1].resets == 1
    by_length = sorted((r.num_steps, r.reward) for r in harness.split.finished)
    assert by_length == [(2, 2.0)] * 3 + [(2, 3.0), (3, 3.0)]


def test_policies_of_agents_that_begin_anew_are_drawn_anew() -> None:
    harness = Harness(lambda e: SelfResettingEnv(), num_envs=1, rollout=200, num_policies=2)
    harness.open()
    slot = harness.fill_slot()
    for column in range(3):
        drawn = slot["policy_id"][:, column]
        changes = np.flatnonzero(drawn[1:] != drawn[:-1])
        assert len(changes) > 10
        assert slot["reset_after"][changes, column].all()


def test_self_resetting_environments_begin_anew_after_a_restore() -> None:
    harness = Harness(lambda e: SelfResettingEnv(), num_envs=1, rollout=5, remember_actions=True)
    harness.open()
    harness.act()
    resumed = Harness(lambda e: SelfResettingEnv(), num_envs=1, rollout=5, remember_actions=True)
    resumed.split.restore(harness.split.state(), 0)
    assert resumed.split.row == 0
    assert len(resumed.fill_slot()["rewards"]) == 5
