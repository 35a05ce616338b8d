"""Ratings and the pool of earlier selves."""

from __future__ import annotations

import itertools
import random

import pytest

from sf_algo.ipc.roster import NOBODY
from sf_algo.population.elo import SCALE, STEP, changes, expected
from sf_algo.population.pool import Member, Pool, draw

A, B = (0, NOBODY), (1, 4)


def test_who_is_rated_higher_is_expected_to_win() -> None:
    assert expected(1000, 1000) == 0.5
    assert expected(1000 + SCALE, 1000) == pytest.approx(10 / 11)


def test_a_win_against_a_stronger_player_counts_more() -> None:
    even = changes([1000, 1000], [A, B], [1, 0])
    assert even == [STEP / 2, -STEP / 2]
    assert changes([1000, 1400], [A, B], [1, 0])[0] > even[0] > changes([1400, 1000], [A, B], [1, 0])[0] > 0
    assert changes([1000, 1000], [A, B], [2, 2]) == [0, 0]


def test_agents_of_one_player_do_not_play_each_other_and_nothing_is_created() -> None:
    changed = changes([1000] * 4, [A, A, B, B], [1, 3, 2, 0])
    assert sum(changed) == pytest.approx(0)
    assert changed[1] == pytest.approx(-changed[3]) == pytest.approx(STEP / 3)
    assert changes([1000, 1000], [A, A], [1, 0]) == [0, 0]


def test_ratings_find_who_wins_three_of_four_games() -> None:
    ratings, rng = [1000.0, 1000.0], random.Random(1)
    seen = []
    for _ in range(4000):
        won = rng.random() < 0.75
        for agent, change in enumerate(changes(ratings, [A, B], [won, not won])):
            ratings[agent] += change
        seen.append(ratings[0] - ratings[1])
    assert sum(seen[500:]) / len(seen[500:]) == pytest.approx(191, abs=25)  # 400 * log10(3)


def add(pool: Pool, frames: int) -> list[Member]:
    return pool.add(policy=0, version=frames, frames=frames, file=f"{frames}.pth", rating=1000)


def test_what_is_kept_is_spread_over_the_training() -> None:
    pool = Pool(size=5)
    for frames in range(101):
        assert len(add(pool, frames)) == (frames >= 5)
    kept = [member.frames for member in pool.members]
    assert kept[0] == 0
    assert kept[-1] == 100
    assert len(kept) == 5
    assert max(after - before for before, after in itertools.pairwise(kept)) <= 64
    assert len({member.number for member in pool.members}) == 5


def test_a_pool_of_one_is_the_newest() -> None:
    pool = Pool(size=1)
    add(pool, 1)
    assert [member.frames for member in add(pool, 2)] == [1]
    assert [member.frames for member in pool.members] == [2]


def test_hard_opponents_are_preferred_and_easy_ones_not_forgotten() -> None:
    pool = Pool(size=2)
    add(pool, 1)
    add(pool, 2)
    for _ in range(100):
        pool.note(0, 1.0)
        pool.note(1, 0.25)
    rng = random.Random(1)
    hard = [draw(pool.members, "hard", rng).number for _ in range(1000)]
    assert 0 < hard.count(0) < 50
    even = [draw(pool.members, "uniform", rng).number for _ in range(1000)]
    assert 400 < even.count(0) < 600


def test_it_goes_on_after_a_trip_through_a_checkpoint() -> None:
    pool = Pool(size=3)
    for frames in range(5):
        add(pool, frames)
    other = Pool(size=3)
    other.restore(pool.state())
    assert other == pool
