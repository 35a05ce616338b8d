"""Silence is not counted while nobody was there to hear anything."""

from __future__ import annotations

import pytest

from sf_algo.processes.absence import AbsenceWatch


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("limit_s", "gap_s", "absent"), [(60, 29, False), (60, 31, True), (0.3, 0.9, False), (0.3, 1.1, True)]
)
def test_an_absence_is_longer_than_half_the_limit_and_a_second(limit_s: float, gap_s: float, absent: bool) -> None:
    clock = Clock()
    absence = AbsenceWatch(limit_s, clock)
    clock.now += gap_s
    assert absence.look() == (clock.now if absent else 100.0)


def test_short_gaps_never_add_up() -> None:
    clock = Clock()
    absence = AbsenceWatch(10.0, clock)
    for _ in range(100):
        clock.now += 4.0
        assert absence.look() == 100.0
    clock.now += 3600.0
    back = clock.now
    assert absence.look() == back
    clock.now += 4.0
    assert absence.look() == back
