"""Grids, lists, samplers and seeds."""

# Wrong types are given on purpose.
# mypy: disable-error-code="arg-type, list-item, dict-item"

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sf_runner.basics.errors import DescriptionError
from sf_runner.describe.params import (
    Choice,
    IntUniform,
    LogUniform,
    ParamGenerator,
    ParamGrid,
    ParamList,
    RandomParams,
    Uniform,
    seeds,
)

VALUES = [0, 1, True, False, None, 0.5, 1e-05, "", "two words", "naïve", {"a": [1, 2]}, [64, 64], Path("x")]


def typed(combinations: object) -> list[list[tuple[str, type, str]]]:
    """Combinations with the types of their values, so that 1, True and 1.0 differ."""
    return [[(k, type(v), repr(v)) for k, v in c.items()] for c in combinations]  # type: ignore[attr-defined]


def test_a_grid_is_the_product_with_the_last_parameter_fastest() -> None:
    grid = ParamGrid([("seed", [0, 1]), ("env", ["a", "b", "c"])])
    assert len(grid) == 6
    expected = [{"seed": seed, "env": env} for seed in (0, 1) for env in ("a", "b", "c")]
    assert list(grid.generate_params()) == expected
    assert list(grid.generate_params(randomize=False)) == expected
    assert list(grid) == expected


def test_linked_parameters_move_together() -> None:
    grid = ParamGrid([("seed", [0, 1]), (("use_rnn", "recurrence"), ([False, 1], [True, 32]))])
    assert list(grid) == [
        {"seed": 0, "use_rnn": False, "recurrence": 1},
        {"seed": 0, "use_rnn": True, "recurrence": 32},
        {"seed": 1, "use_rnn": False, "recurrence": 1},
        {"seed": 1, "use_rnn": True, "recurrence": 32},
    ]


def test_a_grid_may_be_a_dict_and_its_values_any_iterable() -> None:
    assert list(ParamGrid({"a": range(2), "b": (x for x in "xy")})) == list(
        ParamGrid([("a", [0, 1]), ("b", ["x", "y"])])
    )


def test_an_empty_grid_is_one_combination_without_parameters() -> None:
    assert list(ParamGrid([])) == [{}]


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_shuffling_keeps_every_value_and_its_type(seed: int) -> None:
    grid = ParamGrid([("p", VALUES), ("q", [1, 1.0, "1"])])
    ordered = typed(grid.generate_params())
    shuffled = typed(grid.generate_params(randomize=True, seed=seed))
    assert shuffled != ordered
    assert sorted(map(str, shuffled)) == sorted(map(str, ordered))
    assert shuffled == typed(grid.generate_params(randomize=True, seed=seed))


def test_shuffles_differ_by_their_seed() -> None:
    grid = ParamGrid([("p", range(50))])
    orders = {tuple(c["p"] for c in grid.generate_params(randomize=True, seed=s)) for s in range(5)}
    assert len(orders) == 5


def test_the_shuffle_is_the_one_that_runs_of_the_past_used() -> None:
    shuffled = ParamGrid([("p", range(8))]).generate_params(randomize=True)
    assert [c["p"] for c in shuffled] == [6, 0, 3, 1, 4, 2, 5, 7]


def test_a_list_gives_its_entries_as_they_are() -> None:
    entries = [{"a": 1}, {"b": None}, {"a": "x", "b": {}}]
    params = ParamList(entries)
    assert list(params.generate_params()) == entries
    assert sorted(map(str, params.generate_params(randomize=True, seed=3))) == sorted(map(str, entries))


def test_generated_dicts_are_the_callers_own() -> None:
    params = ParamList([{"a": 1}])
    next(params.generate_params())["a"] = 2
    assert list(params) == [{"a": 1}]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ParamGrid([("seed", [])]), "'seed' has no values"),
        (lambda: ParamGrid([("seed", [0]), ("seed", [1])]), "'seed' is given twice"),
        (lambda: ParamGrid([("a", [0]), (("b", "a"), ([1, 2],))]), "'a' is given twice"),
        (lambda: ParamGrid([("env", "doom_basic")]), "must be a list, got 'doom_basic'"),
        (lambda: ParamGrid([("env", {"a": 1})]), "must be a list"),
        (lambda: ParamGrid([("env", 3)]), "must be a list, got 3"),
        (lambda: ParamGrid([(("a", "b"), ([1, 2], [3]))]), r"\(a, b\) need 2 values at once, got \[3\]"),
        (lambda: ParamGrid([(("a", "b"), ("xy",))]), "need 2 values at once, got 'xy'"),
        (lambda: ParamGrid(["seed"]), "expected"),
        (lambda: ParamGrid([(3, [1])]), "name must be text"),
        (lambda: ParamGrid([("", [1])]), "name must be text"),
        (lambda: ParamList([{"a": 1}, "b"]), "ParamList entry 1 must be a dict"),
        (lambda: ParamList([{1: 2}]), "name must be text, got 1"),
        (lambda: RandomParams([("a", Uniform(0, 1))], num_samples=0), "num_samples"),
        (lambda: Uniform(2, 1), "low <= high"),
        (lambda: Uniform(0, math.inf), "finite"),
        (lambda: LogUniform(0, 1), "low must be positive"),
        (lambda: Choice([]), "no values"),
        (lambda: seeds(-1), "number of seeds"),
    ],
)
def test_faults_are_told(make: object, message: str) -> None:
    with pytest.raises(DescriptionError, match=message):
        make()  # type: ignore[operator]


def test_random_samples_are_the_same_at_every_start() -> None:
    params = RandomParams(
        [
            ("lr", LogUniform(1e-5, 1e-2)),
            ("gamma", Uniform(0.9, 1.0)),
            ("layers", IntUniform(1, 3)),
            (("use_rnn", "recurrence"), Choice([(False, 1), (True, 32)])),
        ],
        num_samples=3,
        seed=5,
    )
    expected = [
        {"lr": 0.001003, "gamma": 0.9763, "layers": 1, "use_rnn": False, "recurrence": 1},
        {"lr": 2.394e-05, "gamma": 0.991, "layers": 2, "use_rnn": True, "recurrence": 32},
        {"lr": 2.797e-05, "gamma": 0.9885, "layers": 3, "use_rnn": False, "recurrence": 1},
    ]
    assert list(params) == list(params.generate_params()) == expected


def test_more_samples_or_parameters_leave_the_others_alone() -> None:
    few = list(RandomParams([("lr", Uniform(0, 1))], num_samples=3))
    more = list(RandomParams([("gamma", Uniform(0, 1)), ("lr", Uniform(0, 1))], num_samples=9))
    assert [c["lr"] for c in few] == [c["lr"] for c in more[:3]]
    other = list(RandomParams([("lr", Uniform(0, 1))], num_samples=3, seed=1))
    assert other != few


@given(st.integers(), st.floats(1e-6, 1e3), st.floats(1.0, 1e3))
def test_samples_stay_in_their_range(seed: int, low: float, factor: float) -> None:
    high = low * factor
    samplers: dict[str, Uniform | LogUniform | IntUniform] = {
        "u": Uniform(low, high),
        "l": LogUniform(low, high),
        "i": IntUniform(-3, 4),
    }
    for combination in RandomParams(samplers, num_samples=5, seed=seed):
        assert low <= combination["u"] <= high  # type: ignore[operator]
        assert low <= combination["l"] <= high  # type: ignore[operator]
        assert type(combination["i"]) is int
        assert -3 <= combination["i"] <= 4


def test_samplers_cover_their_range_evenly() -> None:
    combinations = list(
        RandomParams([("l", LogUniform(1e-4, 1e-2)), ("i", IntUniform(0, 3)), ("c", Choice("ab"))], num_samples=2000)
    )
    below = sum(c["l"] < 1e-3 for c in combinations)  # type: ignore[operator]
    assert 900 < below < 1100
    counts = [sum(c["i"] == i for c in combinations) for i in range(4)]
    assert sum(counts) == 2000
    assert all(400 < count < 600 for count in counts)
    assert 900 < sum(c["c"] == "a" for c in combinations) < 1100


def test_seeds_are_documented_values() -> None:
    # printf 'sf_runner.seeds:0:0' | sha256sum, its first 16 digits modulo 9000000, plus 1000000
    assert seeds(4) == [8416362, 5178648, 7571787, 6263661]
    assert seeds(2, root_seed=42) == [9074411, 5820654]


@given(st.integers(0, 60), st.integers(0, 60), st.integers())
def test_seeds_are_distinct_and_extend(few: int, more: int, root_seed: int) -> None:
    few, more = sorted((few, more))
    longer = seeds(more, root_seed)
    assert longer[:few] == seeds(few, root_seed)
    assert len(set(longer)) == more
    assert all(1_000_000 <= seed < 10_000_000 for seed in longer)


def test_a_generator_of_ones_own_can_be_iterated() -> None:
    class Pairs(ParamGenerator):
        def generate_params(self, randomize: bool = False, *, seed: int = 0):  # type: ignore[no-untyped-def]
            for a, b in itertools.pairwise(range(3)):
                yield {"a": a, "b": b}

    assert list(Pairs()) == [{"a": 0, "b": 1}, {"a": 1, "b": 2}]
