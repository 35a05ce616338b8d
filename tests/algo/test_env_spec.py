"""Specs: what they compute, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from sf_algo.envs.spec import ActionSpec, Box, Discrete, EnvSpec, EpisodeStats, ObsSpec, agent_episode_stats

FLOAT = np.dtype(np.float32)
MIXED = ActionSpec((Discrete(3), Box((-1.0, 0.0), (1.0, np.inf)), Discrete(2)))


def test_an_action_row_has_one_number_per_choice_and_per_box_entry() -> None:
    assert MIXED.width == 4
    assert MIXED.num_choices == 5
    assert MIXED.slices == (slice(0, 1), slice(1, 3), slice(3, 4))


def test_random_actions_are_legal_and_reach_every_choice() -> None:
    actions = MIXED.sample(np.random.default_rng(0), 500)
    assert actions.shape == (500, 4)
    assert actions.dtype == np.float32
    assert set(actions[:, 0]) == {0, 1, 2}
    assert set(actions[:, 3]) == {0, 1}
    assert actions[:, 1].min() >= -1
    assert actions[:, 1].max() <= 1
    assert np.ptp(actions[:, 1]) > 1.8
    assert actions[:, 2].min() >= 0, "a normal draw where there is no upper bound, clipped to the lower one"
    assert np.array_equal(actions, MIXED.sample(np.random.default_rng(0), 500))


@pytest.mark.parametrize(
    "make", [lambda: Discrete(0), lambda: Box((), ()), lambda: Box((0.0,), ()), lambda: ActionSpec(())]
)
def test_senseless_action_spaces_are_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match="needs"):
        make()


@pytest.mark.parametrize(("dtype", "length"), [(np.int8, 4), (np.float32, 5)])
def test_an_action_mask_must_have_one_int8_per_choice(dtype: type, length: int) -> None:
    mask = ObsSpec(shape=(length,), dtype=np.dtype(dtype))
    with pytest.raises(ValueError, match=r"action_mask.*int8.*\(5,\)"):
        EnvSpec(obs={"action_mask": mask}, actions=MIXED)


def test_masked_actions_are_never_drawn() -> None:
    rng = np.random.default_rng(0)
    mask = np.tile(np.array([1, 0, 1, 0, 1], np.int8), (200, 1))
    actions = MIXED.sample(rng, 200, mask)
    assert set(actions[:, 0]) == {0, 2}
    assert set(actions[:, 3]) == {1}
    spec = EnvSpec(obs={"action_mask": ObsSpec(shape=(5,), dtype=np.dtype(np.int8))}, actions=MIXED)
    rows = spec.empty_rows()
    rows[0]["action_mask"][:] = [0, 1, 0, 1, 0]
    assert spec.sample_actions(rng, rows)[0, [0, 3]].tolist() == [1, 0]


def test_images_are_recognized_by_dtype_and_rank() -> None:
    assert ObsSpec(shape=(3, 72, 128), dtype=np.dtype(np.uint8)).is_image
    assert not ObsSpec(shape=(3, 72, 128), dtype=FLOAT).is_image
    assert not ObsSpec(shape=(128,), dtype=np.dtype(np.uint8)).is_image


def test_statistics_of_an_agent_are_its_own_or_everybodys() -> None:
    stats: EpisodeStats = {"length": 7.0, "true_reward": np.array([1.5, 2.5])}
    assert agent_episode_stats(stats, 1) == {"length": 7.0, "true_reward": 2.5}
