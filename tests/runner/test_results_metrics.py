"""Which metric is meant, and numbers as text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sf_runner.basics.errors import UsageError
from sf_runner.basics.paths import RunPaths
from sf_runner.results.experiments import experiments_of
from sf_runner.results.formatting import decimals, number, short_number, tick_labels
from sf_runner.results.metrics import choose, fps_name, lower_is_better, resolve
from sf_runner.results.plot_data import Line, ticks
from sf_runner.results.statistics import Band
from sf_runner.state.events import JobsPlanned
from sf_runner.state.fold import RunState

TAGS = [
    "perf/fps",
    "policy_stats/avg_reward",
    "policy_stats/avg_true_reward",
    "policy_stats/avg_len",
    "train/reward_loss",
]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("policy_stats/avg_len", "policy_stats/avg_len"),
        ("avg_len", "policy_stats/avg_len"),
        ("len", "policy_stats/avg_len"),
        ("reward", "policy_stats/avg_reward"),
        ("fps", "perf/fps"),
        ("rewards", None),
        ("eval/len", None),
    ],
)
def test_people_need_not_say_the_whole_name(wanted: str, found: str | None) -> None:
    assert resolve(wanted, TAGS) == found


def test_an_ambiguous_name_is_told() -> None:
    with pytest.raises(UsageError, match="--metric=reward may be eval/reward, train/reward; give one of these"):
        resolve("reward", ["train/reward", "eval/reward"])


def test_the_main_metric_is_the_true_reward_or_what_comes_closest() -> None:
    def main_metric(**available: list[str]) -> str:
        return choose([], available, minimize=None)[0].name  # type: ignore[arg-type]

    assert main_metric(tensorboard=TAGS) == "policy_stats/avg_true_reward"
    assert main_metric(tensorboard=TAGS[:2], progress=["reward"]) == "policy_stats/avg_reward"
    assert main_metric(tensorboard=["rollout/ep_rew_mean", "rollout/ep_len_mean"]) == "rollout/ep_rew_mean"
    assert main_metric(tensorboard=["perf/fps"], progress=["reward"]) == "reward"
    assert main_metric(tensorboard=["train/reward", "x/y"], progress=["gap", "kl"]) == "gap"
    with pytest.raises(UsageError, match="no experiment has written"):
        main_metric()


def test_one_metric_has_a_name_in_each_source() -> None:
    (metric,) = choose(["reward"], {"tensorboard": TAGS, "progress": ["reward"], "results": ["fps"]}, minimize=None)
    assert metric.names == {"tensorboard": "policy_stats/avg_reward", "progress": "reward"}
    assert len(choose(["reward", "avg_reward"], {"tensorboard": TAGS}, minimize=None)) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [("train/value_loss", True), ("loss", True), ("test_error", True), ("reward", False), ("glossary", False)],
)
def test_less_is_better_for_losses(name: str, expected: bool) -> None:
    assert lower_is_better(name) is expected
    assert choose([name], {"progress": [name]}, minimize=False)[0].lower_is_better is False


def test_the_speed_is_known_by_its_name() -> None:
    assert fps_name(TAGS) == "perf/fps"
    assert fps_name(["charts/SPS", "x"]) == "charts/SPS"
    assert fps_name(["x"]) is None


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([9.8765, 1.2], ["9.877", "1.200"]),
        ([98.765, 1.2], ["98.77", "1.20"]),
        ([12345.6, 7.0], ["12346", "7"]),
        ([0.5, 0.012], ["0.5000", "0.0120"]),
        ([100.0, 0.0012], ["100", "0.0012"]),
        ([1e9, 2.0], ["1e+09", "2"]),
        ([0.0], ["0.00"]),
        ([-43.21, 0.0, None], ["-43.21", "0.00", "–"]),
    ],
)
def test_numbers_of_a_column_share_their_decimals(values: list[float | None], shown: list[str]) -> None:
    places = decimals(values)
    assert [number(value, places) for value in values] == shown


def test_numbers_on_axes_are_short() -> None:
    assert tick_labels([40_958.0, 40_960.0]) == ["40.958k", "40.96k"]
    assert tick_labels([0.0, 1500.0]) == ["0", "1.5k"]
    assert tick_labels([3.0]) == ["3"]
    assert [short_number(value) for value in (0, 0.25, 1500, 2.5e6, -3e9)] == ["0", "0.25", "1.5k", "2.5M", "-3B"]


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_ticks_are_round_and_inside(low: float, width: float) -> None:
    high = low + width
    found = ticks(low, high)
    if width < 1e-9 * abs(low):
        return  # no room for different numbers
    assert 1 <= len(found) <= 13
    slack = 1e-6 * width + 1e-9 * abs(low)
    assert all(low - slack <= value <= high + slack for value in found)
    assert found == sorted(set(found))


def test_a_curve_is_dotted_where_fewer_experiments_reach_it() -> None:
    n = np.array([1, 3, 3, 2, 2, 3])
    x = np.arange(6.0)
    line = Line(label="", color="", dashed_label=False, band=Band(x=x, mean=x, low=x, high=x, n=n))
    parts = [(part.start, min(part.stop, 6), fewer) for part, fewer in line.stretches()]
    assert parts == [(0, 2, True), (1, 3, False), (2, 6, True), (5, 6, False)]


@pytest.mark.parametrize(
    ("params", "seed", "seed_param", "left"),
    [
        ([{"seed": 1, "lr": 1}, {"seed": 2, "lr": 1}], ["1", "2"], None, ["lr"]),
        ([{"env.rng": 1, "seed": 1}], ["1"], "env.rng", ["seed"]),
        ([{"number": 5, "lr": 5}], ["5"], "lr", ["number"]),
        ([{"lr": 1}], [None], None, ["lr"]),
    ],
)
def test_the_journal_tells_which_parameter_is_the_seed(
    params: list[dict[str, object]], seed: list[str | None], seed_param: str | None, left: list[str]
) -> None:
    jobs = []
    for index, (values, text) in enumerate(zip(params, seed, strict=True)):
        job = {
            "id": f"a_/{index}",
            "index": index,
            "rank": 0.0,
            "fp": "",
            "params": values,
            "argv": ["x", "--env=e1", "--z=2"],
        }
        named = {"seed_param": seed_param} if seed_param is not None else {}
        jobs.append(job if text is None else {**job, "seed": text, **named})
    state = RunState()
    state.apply(JobsPlanned(t=0.0, jobs=jobs))
    found = experiments_of(state, RunPaths(train_dir=Path("td"), run_name="r"), now=0.0)
    assert [(list(e.params), e.seed, e.task, e.base_name) for e in found] == [(left, text, "e1", "a") for text in seed]
