"""Ratings of players, and who meets whom."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_algo.population.pairing import pairs_of, seating
from sf_algo.population.ratings import PairResult, rate, win_share


def by_name(results: list[PairResult], players: str) -> dict[str, float]:
    return {one.player: one.rating for one in rate(list(players), results)}


def test_odds_become_points() -> None:
    found = by_name([PairResult(first="a", second="b", wins=9000, draws=2000, losses=0)], "ab")
    odds = 10_000 / 1_000
    assert found["a"] - found["b"] == pytest.approx(400 * math.log10(odds), rel=0.01)
    assert found["a"] + found["b"] == pytest.approx(2000)


def test_known_strengths_are_found_within_their_intervals() -> None:
    rng = np.random.default_rng(0)
    names = [f"p{k}" for k in range(8)]
    strength = np.linspace(-1.5, 1.5, 8)
    results = []
    for a in range(8):
        for b in range(a + 1, 8):
            wins = int(rng.binomial(40, 1 / (1 + math.exp(strength[b] - strength[a]))))
            results.append(PairResult(first=names[a], second=names[b], wins=wins, draws=0, losses=40 - wins))
    found = {one.player: one for one in rate(names, results)}
    truth = {name: 1000 + 400 / math.log(10) * s for name, s in zip(names, strength, strict=True)}
    inside = sum(found[name].low <= truth[name] <= found[name].high for name in names)
    assert inside >= 7
    order = [one.player for one in rate(names, results)]
    assert {order[0], order[1]} == {"p6", "p7"}
    assert {order[-1], order[-2]} == {"p0", "p1"}


def test_intervals_hold_what_they_promise() -> None:
    """Of the differences of two players' ratings to their mean, 95 % are inside."""
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(300):
        wins = int(rng.binomial(60, 0.7))
        (a, _) = sorted(
            rate(["a", "b"], [PairResult(first="a", second="b", wins=wins, draws=0, losses=60 - wins)]),
            key=lambda one: one.player,
        )
        inside += a.low <= 1000 + 200 * math.log10(0.7 / 0.3) <= a.high
    assert 0.9 <= inside / 300 <= 0.99


def test_winning_everything_is_no_infinite_strength_and_no_game_no_strength() -> None:
    found = rate(["a", "b", "c"], [PairResult(first="a", second="b", wins=50, draws=0, losses=0)])
    assert all(math.isfinite(one.rating) and one.low < one.rating < one.high for one in found)
    assert [one.player for one in found] == ["a", "c", "b"]
    assert found[0].wins == 50
    assert found[2].losses == 50


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), *[st.integers(0, 20)] * 3), max_size=12))
def test_ratings_do_not_depend_on_order_or_on_who_is_first(games: list[tuple[int, int, int, int, int]]) -> None:
    games = [game for game in games if game[0] != game[1]]
    plain = [PairResult(first=str(a), second=str(b), wins=w, draws=d, losses=x) for a, b, w, d, x in games]
    turned = [
        PairResult(first=one.second, second=one.first, wins=one.losses, draws=one.draws, losses=one.wins)
        for one in reversed(plain)
    ]
    assert by_name(plain, "01234") == pytest.approx(by_name(turned, "01234"), abs=1e-6)


def test_a_share_of_wins_has_an_interval() -> None:
    share, low, high = win_share(70, 0, 30)
    assert share == 0.7
    assert (low, high) == pytest.approx((0.604, 0.781), abs=0.003)  # Wilson
    assert win_share(0, 0, 0) == (0.0, 0.0, 1.0)
    assert win_share(10, 0, 0)[2] == pytest.approx(1.0)


def test_few_players_all_meet() -> None:
    assert len(pairs_of([["a", "b"], ["c", "d"]])) == 6


def test_many_players_meet_some_and_hang_together() -> None:
    lines = [[f"{policy}.{age}" for age in range(20)] for policy in range(3)]
    pairs = pairs_of(lines)
    assert len(pairs) < 60 * 59 / 2 / 4
    assert len({frozenset(pair) for pair in pairs}) == len(pairs)
    reached, todo = {"0.0"}, ["0.0"]
    while todo:
        player = todo.pop()
        for pair in pairs:
            for other in set(pair) - reached if player in pair else ():
                reached.add(other)
                todo.append(other)
    assert len(reached) == 60
    assert len(pairs_of(lines, all_pairs=True)) == 60 * 59 / 2


def test_seats_go_round() -> None:
    games = [seating([0, 1], [0, 0], [None, None], game) for game in range(2)]
    assert games == [[0, 1], [1, 0]]
    assert seating([0, 1], [0] * 4, [None, None], 0) == [0, 1, 0, 1]
    assert {tuple(seating([0, 1, 2], [0, 0], [None] * 3, game)) for game in range(3)} == {(0, 1), (1, 2), (2, 0)}


def test_players_of_any_role_meet_across_roles() -> None:
    assert [seating([0, 1], [0, 1], [None, None], game) for game in range(2)] == [[0, 1], [1, 0]]


def test_roles_are_played_by_those_who_can() -> None:
    assert seating([0, 1, 2], [0, 1, 1], [0, 1, 1], 0) == [0, 1, 2]
    assert seating([0, 1, 2], [0, 1, 1], [0, 1, 1], 1) == [0, 2, 1]
    with pytest.raises(ValueError, match="role 1"):
        seating([0], [0, 1], [0], 0)
