"""Statistics over seeds, compared with other ways to compute them."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_runner.results.statistics import CURVE_RESAMPLES, Band, aggregate, band, iqm, resample_indices


def exact_interval(values: list[float]) -> tuple[float, float]:
    """Quantiles of the mean over all equally likely resamples, each of them drawn once."""
    means = sorted(math.fsum(sample) / len(sample) for sample in itertools.product(values, repeat=len(values)))
    return means[math.ceil(0.025 * len(means)) - 1], means[math.ceil(0.975 * len(means)) - 1]


@pytest.mark.parametrize("values", [[1.0, 2.0], [3.0, -1.0, 10.0], [0.0, 1.0, 5.0, 6.0], [1.0, 2.0, 4.0, 8.0, 16.0]])
def test_the_interval_is_that_of_all_possible_resamples(values: list[float]) -> None:
    interval = aggregate(values).mean_interval
    assert interval is not None
    low, high = exact_interval(values)
    spread = max(values) - min(values)
    assert interval.low == pytest.approx(low, abs=0.03 * spread)
    assert interval.high == pytest.approx(high, abs=0.03 * spread)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_moments_agree_with_the_standard_library(values: list[float]) -> None:
    result = aggregate(values)
    assert result.n == len(values)
    assert result.mean == pytest.approx(statistics.fmean(values), rel=1e-9, abs=1e-6)
    assert result.median == pytest.approx(statistics.median(values), rel=1e-9, abs=1e-6)
    assert (result.min, result.max) == (min(values), max(values))
    if len(values) > 1:
        assert result.stddev == pytest.approx(statistics.stdev(values), rel=1e-9, abs=1e-6)
        assert result.mean_interval is not None
        assert result.mean_interval.low <= result.mean_interval.high


@pytest.mark.parametrize(
    ("values", "expected"),
    [([7], 7.0), ([1, 2, 9], 4.0), ([100, 1, 2, 3], 2.5), ([5, 1, 2, 3, 400], 10 / 3), (list(range(8)), 3.5)],
)
def test_the_interquartile_mean_cuts_a_quarter_rounded_down(values: list[float], expected: float) -> None:
    assert float(iqm(np.array(values, dtype=float))) == pytest.approx(expected)


def test_one_value_has_no_interval() -> None:
    result = aggregate([2.5])
    assert (result.mean, result.iqm, result.mean_interval, result.iqm_interval, result.stddev) == (
        2.5,
        2.5,
        *[None] * 3,
    )


def test_the_same_numbers_give_the_same_interval_and_another_seed_another_one() -> None:
    values = [0.3, 1.7, 2.9, 3.1, 4.4, 8.0]
    assert aggregate(values) == aggregate(values)
    assert aggregate(values).mean_interval != aggregate(values, seed=1).mean_interval


def test_strata_are_resampled_within_themselves() -> None:
    strata = ["a", "a", "b", "b", "b"]
    indices = resample_indices(strata, 500, seed=0)
    assert set(indices[:, :2].ravel()) == {0, 1}
    assert set(indices[:, 2:].ravel()) == {2, 3, 4}
    far_apart = aggregate([0.0, 0.0, 1000.0, 1000.0, 1000.0], strata).mean_interval
    assert far_apart is not None
    assert (far_apart.low, far_apart.high) == (600.0, 600.0), "each stratum has its share in every resample"


def curve(xs: list[float], ys: list[float]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(xs, dtype=float), np.array(ys, dtype=float)


def at(found: Band, x: float) -> tuple[float, float, float, int]:
    (index,) = np.flatnonzero(np.isclose(found.x, x))
    return float(found.mean[index]), float(found.low[index]), float(found.high[index]), int(found.n[index])


def test_curves_with_different_steps_meet_on_a_grid() -> None:
    found = band([curve([0, 10], [0, 10]), curve([0, 4, 10], [2, 2, 2])], points=11)
    assert found is not None
    assert found.x.tolist() == list(range(11))
    assert found.mean.tolist() == pytest.approx([(x + 2) / 2 for x in range(11)])
    mean, low, high, n = at(found, 6)
    assert (mean, n) == (4.0, 2)
    assert (low, high) == (2.0, 6.0), "of two experiments the interval is from one to the other"


def test_beyond_its_end_a_curve_does_not_count() -> None:
    found = band([curve([0, 4], [1, 1]), curve([0, 8], [3, 3])], points=9)
    assert found is not None
    assert found.n.tolist() == [2] * 5 + [1] * 4
    assert found.mean.tolist() == [2.0] * 5 + [3.0] * 4
    assert at(found, 6)[1:3] == (3.0, 3.0), "one experiment has no interval"


def test_nearly_equal_ends_count_as_equal_whatever_the_beginnings() -> None:
    found = band([curve([0, 100], [1, 1]), curve([50, 103], [3, 3])])
    assert found is not None
    assert (found.x[0], found.x[-1], found.n[-1]) == (0.0, 100.0, 2)


def test_nearly_equal_lengths_count_as_equal() -> None:
    found = band([curve([0, 100], [1, 1]), curve([1, 103], [3, 3])])
    assert found is not None
    assert (found.x[0], found.x[-1]) == (1.0, 100.0)
    assert set(found.n) == {2}


def test_the_band_at_one_position_is_the_interval_of_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sf_runner.results.statistics.RESAMPLES", CURVE_RESAMPLES)
    ends = [1.0, 4.0, 5.0, 9.0]
    found = band([curve([0, 10], [0, end]) for end in ends])
    assert found is not None
    result = aggregate(ends)
    assert result.mean_interval is not None
    assert at(found, 10) == pytest.approx((result.mean, result.mean_interval.low, result.mean_interval.high, 4))


def test_curves_without_values_are_none() -> None:
    assert band([]) is None
    assert band([curve([], [])]) is None
    single = band([curve([5], [1]), curve([5], [3])])
    assert single is not None
    assert (single.x.tolist(), single.mean.tolist()) == ([5.0], [2.0])
