"""What a split writes into its slots: rows around terminations and truncations, filler rows, recurrent
states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from sf_algo.envs.spec import Env, ObsRow, StepResult
from sf_algo.errors import WorkerError
from sf_algo.rollout.episodes import mix_seed
from sf_algo.rollout.policy_draw import PolicyDraw
from sf_algo.testing import BrokenEnv, CountingEnv, MemoryEnv
from tests.algo.split_harness import Harness, T, obs_column


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


def test_steps_that_can_are_begun_side_by_side_with_the_same_actions() -> None:
    said: list[tuple[str, int, float]] = []

    class AheadEnv(CountingEnv):
        def __init__(self, number: int) -> None:
            super().__init__(env_index=number, length=1000)
            self.number = number

        def begin_step(self, actions: np.ndarray) -> None:
            said.append(("begin", self.number, float(actions[0, 0])))

        def step(self, actions: np.ndarray, out: Sequence[ObsRow]) -> StepResult:
            said.append(("step", self.number, float(actions[0, 0])))
            return super().step(actions, out)

    harness = Harness(AheadEnv, num_envs=2)
    harness.open()
    harness.fill_slot()
    first, rest = said[:2], said[2:]
    assert [what for what, *_ in first] == ["step", "step"], "the first step of an environment may take long"
    for k in range(0, len(rest), 4):
        (_, _, a), (_, _, b) = rest[k : k + 2]
        assert rest[k : k + 4] == [("begin", 0, a), ("begin", 1, b), ("step", 0, a), ("step", 1, b)]
    assert len(rest) == 4 * (T - 1)
