"""What a split writes into its slots: rows around terminations and truncations, filler rows, recurrent
states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from sf_algo.buffers.layout import TrajectoryArrays, TrajectoryLayout, make_layout
from sf_algo.envs.spec import PLAIN_OBS, Env, ObsBlock, ObsRow, StepResult
from sf_algo.errors import WorkerError
from sf_algo.rollout.env_set import EnvFault, EnvSet
from sf_algo.rollout.episodes import PolicyDraw, mix_seed
from sf_algo.rollout.split import EnvSplit, WarmUp
from sf_algo.testing import BrokenEnv, CountingEnv, MemoryEnv

T = 4
S = 2


class NoWatch:
    def resetting(self, env_index: int) -> None: ...

    def stepping(self, env_index: int) -> None: ...


class FixedWarmUp(WarmUp):
    def draw_steps(self, num_envs: int) -> list[int]:
        return [self.max_steps] * num_envs


class Harness:
    """A split with its slots; acts with actions that can be told apart."""

    def __init__(
        self,
        make_env: Callable[[int], Env],
        *,
        num_envs: int = 2,
        num_slots: int = 2,
        num_policies: int = 1,
        rollout: int = T,
        remember_actions: bool = False,
        seed_every_episode: bool = False,
        warm_up_steps: int = 0,
    ) -> None:
        spec = make_env(0).spec
        self.layout: TrajectoryLayout = make_layout(
            obs=spec.obs, actions=spec.actions, rollout=rollout, rnn_state_width=S
        )
        self.faults: list[EnvFault] = []
        self.envs = EnvSet(
            make_env=make_env,
            env_indices=range(num_envs),
            spec=spec,
            seed=3,
            seed_every_episode=seed_every_episode,
            watch=NoWatch(),
            on_fault=self.faults.append,
        )
        self.slots = [self.layout.allocate(num_envs * spec.num_agents) for _ in range(num_slots)]
        self.split = EnvSplit(
            self.envs,
            self.slots,
            policies=PolicyDraw(num_policies=num_policies, mix=True, seed=3),
            remember_actions=remember_actions,
        )
        self.warm_up_steps = warm_up_steps
        self.position = 0

    def open(self) -> None:
        rng = np.random.default_rng(0)
        self.split.open(0, FixedWarmUp(rng=rng, max_steps=self.warm_up_steps, each=True, expired=lambda: False))

    def act(self) -> bool:
        """What inference does, with action = row and recurrent state = row + 1."""
        slot, row = self.split.slot, self.split.row
        slot["actions"][row] = row
        slot["rnn_states"][row + 1] = row + 1
        return self.split.step()

    def fill_slot(self) -> TrajectoryArrays:
        while not self.act():
            pass
        return self.split.slot

    def next_slot(self) -> None:
        self.position = (self.position + 1) % len(self.slots)
        self.split.begin_slot(self.position)


def obs_column(slot: TrajectoryArrays, column: int) -> list[list[float]]:
    rows: list[list[float]] = slot["obs/obs"][:, column].tolist()
    return rows


def test_termination_is_followed_by_the_next_episode_at_once() -> None:
    harness = Harness(lambda e: CountingEnv(env_index=e, length=3), num_envs=1)
    harness.open()
    slot = harness.fill_slot()
    # Episode 0 has three steps and terminates: row 3 is the first observation of episode 1.
    assert obs_column(slot, 0) == [[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 2, 1], [0, 1, 0, 0], [0, 1, 1, 3]]
    assert slot["terminated"][:, 0].tolist() == [False, False, True, False]
    assert slot["reset_after"][:, 0].tolist() == [False, False, True, False]
    assert not slot["truncated"].any()
    assert slot["valid"].all()
    assert slot["rewards"][:, 0].tolist() == [0, 1, 2, 3]
    assert slot["rnn_states"][:, 0, 0].tolist() == [0, 1, 2, 0, 4]


def test_truncation_leaves_a_filler_row_with_the_final_observation() -> None:
    harness = Harness(lambda e: CountingEnv(env_index=e, length=2), num_envs=1, rollout=6)
    harness.open()
    slot = harness.fill_slot()
    # Episode 0: rows 0-1, terminates. Episode 1: rows 2-3, truncated; row 4 is the filler; episode 2 from row
    # 5.
    episodes_and_steps = [row[1:3] for row in obs_column(slot, 0)]
    assert episodes_and_steps == [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2], [2, 0], [2, 1]]
    assert slot["truncated"][:, 0].tolist() == [False, False, False, True, False, False]
    assert slot["terminated"][:, 0].tolist() == [False, True, False, False, False, False]
    assert slot["valid"][:, 0].tolist() == [True, True, True, True, False, True]
    assert slot["reset_after"][:, 0].tolist() == [False, True, False, False, True, False]
    assert slot["rewards"][4, 0] == 0
    # The filler row keeps the recurrent state of its episode; the row after it begins with zeros.
    assert slot["rnn_states"][:, 0, 0].tolist() == [0, 1, 0, 3, 4, 0, 6]


def test_truncation_in_the_last_row_puts_the_filler_into_the_next_slot() -> None:
    harness = Harness(lambda e: CountingEnv(env_index=e, length=2), num_envs=1)
    harness.open()
    first = harness.fill_slot()
    assert first["truncated"][3, 0]
    assert not first["reset_after"][3, 0]
    assert obs_column(first, 0)[4][1:3] == [1, 2]
    harness.next_slot()
    assert obs_column(harness.split.slot, 0)[0][1:3] == [1, 2]
    second = harness.fill_slot()
    assert second["valid"][:, 0].tolist() == [False, True, True, True]
    assert second["reset_after"][0, 0]
    assert second["rnn_states"][0, 0, 0] == 4
    assert second["rnn_states"][1, 0, 0] == 0


def test_the_last_row_of_a_slot_begins_the_next_one_and_may_be_the_same_memory() -> None:
    for num_slots in (1, 2):
        harness = Harness(lambda e: CountingEnv(env_index=e, length=50), num_slots=num_slots)
        harness.open()
        last = harness.fill_slot()["obs/obs"][T].copy()
        harness.next_slot()
        assert harness.split.row == 0
        np.testing.assert_array_equal(harness.split.slot["obs/obs"][0], last)


def test_all_agents_of_an_environment_share_the_filler_row() -> None:
    harness = Harness(lambda e: CountingEnv(env_index=e, length=1, num_agents=3), num_envs=2, rollout=5)
    harness.open()
    slot = harness.fill_slot()
    assert slot["valid"].shape == (5, 6)
    # Episodes of one step: 0 terminates, 1 is truncated (filler), 2 terminates, 3 is truncated (filler).
    assert (slot["valid"] == np.array([True, True, False, True, True])[:, None]).all()
    assert [report.stats for report in harness.split.finished[:6]] == [{"episode_number": 0.0}] * 6


def test_episodes_report_reward_and_length() -> None:
    harness = Harness(lambda e: CountingEnv(env_index=e, length=3), num_envs=2, rollout=12)
    harness.open()
    harness.fill_slot()
    mine = harness.split.finished[::2]
    # Rows 0-2, 3-5, filler 6, 7-9: the reward of a step is its row.
    assert [report.reward for report in mine] == [0 + 1 + 2, 3 + 4 + 5, 7 + 8 + 9]
    assert [report.num_steps for report in mine] == [3, 3, 3]


def test_warm_up_shifts_episodes_and_is_not_reported() -> None:
    harness = Harness(lambda e: CountingEnv(env_index=e, length=3), num_envs=1, warm_up_steps=2)
    harness.open()
    assert obs_column(harness.split.slot, 0)[0][1:3] == [0, 2]
    harness.act()
    assert harness.split.slot["terminated"][0, 0]
    assert harness.split.finished == []
    harness.fill_slot()
    assert [report.num_steps for report in harness.split.finished] == [3]


def test_policies_are_drawn_for_every_episode_and_stamped_on_its_rows() -> None:
    harness = Harness(lambda e: CountingEnv(env_index=e, length=2), num_envs=8, num_policies=3, rollout=32)
    harness.open()
    slot = harness.fill_slot()
    assert set(np.unique(slot["policy_id"]).tolist()) == {0, 1, 2}
    for column in range(8):
        ids = slot["policy_id"][:, column]
        boundaries = slot["reset_after"][:-1, column]
        changed = ids[1:] != ids[:-1]
        assert not changed[~boundaries].any()
    reported = {report.policy_id for report in harness.split.finished}
    assert reported == {0, 1, 2}


def test_policy_draw_without_mixing_gives_one_policy_to_an_environment() -> None:
    draw = PolicyDraw(num_policies=4, mix=False, seed=1)
    drawn = [draw.draw(env_index=e, episode=k, num_agents=3) for e in range(5) for k in range(5)]
    assert all(len(set(ids.tolist())) == 1 for ids in drawn)
    assert {int(ids[0]) for ids in drawn} == {0, 1, 2, 3}


def test_seeds_differ_and_are_stable() -> None:
    seeds = {mix_seed(7, env, episode) for env in range(40) for episode in range(40)}
    assert len(seeds) == 1600
    assert mix_seed(7, 1, 2) == mix_seed(7, 1, 2) != mix_seed(8, 1, 2)
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_a_broken_environment_is_replaced_and_its_row_is_not_trained_on() -> None:
    made: list[BrokenEnv] = []

    def make(e: int) -> Env:
        made.append(BrokenEnv(break_after=2 if len(made) == 1 else 1000, hangs=False, env_index=e))
        return made[-1]

    harness = Harness(make, num_envs=1)
    harness.open()
    slot = harness.fill_slot()
    assert slot["valid"][:, 0].tolist() == [True, True, False, True]
    assert slot["reset_after"][:, 0].tolist() == [False, False, True, False]
    assert not slot["terminated"].any()
    assert slot["rnn_states"][3, 0, 0] == 0
    assert made[1].closed
    assert "on purpose" in harness.faults[0].traceback
    assert harness.faults[0].env_index == 0


def test_a_hopeless_environment_is_given_up_with_its_traceback() -> None:
    harness = Harness(lambda e: BrokenEnv(break_after=1, hangs=False, env_index=e), num_envs=1, rollout=20)
    harness.open()
    with pytest.raises(WorkerError, match="environment 0 broke 3 times") as caught:
        harness.fill_slot()
    assert "on purpose" in str(caught.value)


def test_environments_must_agree_on_their_spaces() -> None:
    harness = Harness(lambda e: CountingEnv(num_agents=1 + (e == 1)), num_envs=2)
    with pytest.raises(WorkerError, match="environment 1 has other spaces"):
        harness.open()


def _memory_split() -> Harness:
    return Harness(
        lambda e: MemoryEnv(delay=5, seed=e),
        num_envs=3,
        remember_actions=True,
        seed_every_episode=True,
        warm_up_steps=2,
    )


@pytest.mark.parametrize("rows_into_the_slot", [0, 2])
def test_a_restored_split_goes_on_exactly_where_it_was(rows_into_the_slot: int) -> None:
    original = _memory_split()
    original.open()
    for _ in range(5):
        original.fill_slot()
        original.next_slot()
    for _ in range(rows_into_the_slot):
        original.act()
    state = original.split.state()
    restored = _memory_split()
    restored.split.restore(state, original.position)
    restored.position = original.position
    assert restored.split.state().episodes == state.episodes
    for _ in range(4):
        expected, found = original.fill_slot(), restored.fill_slot()
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
        original.next_slot()
        restored.next_slot()


def test_a_split_restored_before_a_filler_row_replays_the_final_observation() -> None:
    def make() -> Harness:
        return Harness(
            lambda e: CountingEnv(env_index=e, length=2),
            num_envs=1,
            remember_actions=True,
            seed_every_episode=True,
        )

    original = make()
    original.open()
    original.fill_slot()
    original.next_slot()
    state = original.split.state()
    assert state.awaiting_reset == [True]
    restored = make()
    restored.split.restore(state, original.position)
    # A CountingEnv counts its resets, so the number of the episode differs; the step within it must not.
    assert obs_column(restored.split.slot, 0)[0][2:] == obs_column(original.split.slot, 0)[0][2:]
    assert not restored.fill_slot()["valid"][0, 0]


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
