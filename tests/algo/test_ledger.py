"""The account of a training: what numbers that are not finite have cost, and when that is too much."""

from __future__ import annotations

import pytest

from sf_algo.errors import DivergedError
from sf_algo.learner.stats import TrainStats
from sf_algo.learning.learners import TrainedBatch
from sf_algo.summaries.status_line import status_line
from sf_algo.training.ledger import FEWEST_JUDGED, JUDGED_ITERATIONS, Ledger


def trained(*, updates: int = 4, skipped: int = 0, damaged: int = 0) -> TrainedBatch:
    stats = TrainStats(
        policy_version=1,
        num_samples=64,
        num_valid_samples=64,
        num_updates=updates,
        num_skipped_updates=skipped,
        num_damaged_trajectories=damaged,
        summaries={},
    )
    return TrainedBatch(policy_id=0, stats=stats, valid_steps=64, seconds=0.0)


def ledger() -> Ledger:
    return Ledger(num_policies=1, frameskip=1)


@pytest.mark.parametrize("fruitless", [{"skipped": 4}, {"updates": 0, "damaged": 3}])
def test_a_training_that_learns_nothing_ends_with_the_reason(fruitless: dict[str, int]) -> None:
    account = ledger()
    for _ in range(FEWEST_JUDGED - 1):
        account.trained(trained(**fruitless))
        account.check_learning()
    account.trained(trained(**fruitless))
    with pytest.raises(DivergedError, match="policy 0 learned nothing in 20 of the last 20 iterations"):
        account.check_learning()


@pytest.mark.parametrize("some", [{"skipped": 3}, {"damaged": 30}, {"updates": 0}])
def test_what_costs_only_a_part_goes_on(some: dict[str, int]) -> None:
    account = ledger()
    for _ in range(3 * JUDGED_ITERATIONS):
        account.trained(trained(**some))
        account.check_learning()


def test_only_the_newest_iterations_count() -> None:
    account = ledger()
    for _ in range(1000):
        account.trained(trained())
    for _ in range(JUDGED_ITERATIONS // 2):
        account.trained(trained(skipped=4))
        account.check_learning()
    account.trained(trained(skipped=4))
    with pytest.raises(DivergedError, match=f"51 of the last {JUDGED_ITERATIONS}"):
        account.check_learning()


def test_the_status_line_shows_what_was_lost() -> None:
    account = ledger()
    account.trained(trained(skipped=1))
    account.trained(trained(damaged=2))
    shown = account.snapshot(bottleneck="", stats={}, perf={})
    line = status_line(shown, [{}], fps=None, limit=None, eta_s=None)
    assert "1 updates skipped (gradient not finite) | 2 trajectories left out (not finite)" in line
    clean = ledger()
    clean.trained(trained())
    line = status_line(clean.snapshot(bottleneck="", stats={}, perf={}), [{}], fps=None, limit=None, eta_s=None)
    assert "finite" not in line


def test_a_change_that_is_told_late_does_not_turn_versions_back() -> None:
    account = ledger()
    account.trained(trained())
    account.changed(0, 3)
    account.changed(0, 2)
    assert account.policies[0].policy_version == 3
    assert [account.frames_at(0, version) for version in (0, 1, 2, 3)] == [0, 64, 64, 64]
