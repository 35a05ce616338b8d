"""Which full slots are taken into batches, and that a late policy is left behind."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from sf_algo.acting.collecting import Collector
from sf_algo.buffers.layout import TrajectoryArrays

T = 2


class Batcher:
    """Room for so many columns."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.is_idle = False
        self.added = 0

    def has_room(self, columns: int) -> bool:
        return columns <= self.room

    def add(self, slot: TrajectoryArrays) -> int:
        self.added += 1
        return 10


class Bench:
    """A collector of policies with so much room each."""

    def __init__(self, *room: int, opponents: bool = False) -> None:
        self.batchers = [Batcher(one) for one in room]
        policies = [SimpleNamespace(policy_id=p, batcher=batcher) for p, batcher in enumerate(self.batchers)]
        self.collected: list[tuple[int, int]] = []
        self.dropped: list[tuple[int, int]] = []
        self.collector = Collector(
            cast(Any, policies),
            opponents=opponents,
            on_collected=lambda policy, steps: self.collected.append((policy, steps)),
            on_dropped=lambda policy, columns: self.dropped.append((policy, columns)),
        )

    def offer(self, *ids: int) -> bool:
        """A slot with one column for each policy id; True when it was taken."""
        slot = slot_of(*ids)
        wanted = self.collector.wanted(slot)
        takers = self.collector.takers(wanted)
        if takers is None and self.collector.note_blocked([wanted]):
            takers = self.collector.takers(wanted)
        if takers is None:
            return False
        self.collector.take(slot, wanted, takers)
        return True


def slot_of(*ids: int) -> TrajectoryArrays:
    policy_id = np.tile(np.asarray(ids, np.int32), (T, 1))
    return {"policy_id": policy_id, "rewards": np.zeros(policy_id.shape, np.float32)}


def test_one_policy_waits_for_room_however_long() -> None:
    bench = Bench(1)
    bench.batchers[0].is_idle = True
    assert not bench.offer(0, 0)
    assert not bench.offer(0, 0)
    bench.batchers[0].room = 2
    assert bench.offer(0, 0)
    assert bench.collected == [(0, 10)]
    assert not bench.dropped


def test_room_is_asked_only_of_those_in_the_slot() -> None:
    bench = Bench(2, 0)
    assert bench.offer(0, 0)
    assert bench.batchers[1].added == 0
    assert not bench.offer(0, 1)


def test_columns_are_counted_by_policy() -> None:
    slot = slot_of(0, 0, 1, 2)
    slot["policy_id"][1, 0] = 1
    assert Bench(9, 9, opponents=True).collector.wanted(slot) == {0: 2, 1: 2}  # policy 2 is an opponent


def test_a_slot_of_opponents_alone_is_nobody_s() -> None:
    bench = Bench(0, opponents=True)
    assert bench.offer(1, 1)
    assert not bench.collected
    assert not bench.dropped


def test_others_wait_for_a_slow_policy_while_their_learners_are_busy() -> None:
    bench = Bench(4, 0)
    assert not bench.offer(0, 1)
    assert bench.collector.late == frozenset()


@pytest.mark.parametrize("ids", [(0, 1), (1, 1)])
def test_a_policy_without_room_is_left_behind_while_another_has_nothing_to_do(ids: tuple[int, int]) -> None:
    bench = Bench(4, 0)
    bench.batchers[0].is_idle = True
    assert bench.offer(*ids)
    assert bench.collector.late == {1}
    assert bench.dropped == [(1, ids.count(1))]
    assert bench.batchers[0].added == ids.count(0)
    bench.batchers[0].is_idle = False
    assert bench.offer(0, 1)  # it is still late: nobody waits for it a second time


def test_a_late_policy_that_has_room_again_takes_part() -> None:
    bench = Bench(4, 0)
    bench.batchers[0].is_idle = True
    assert bench.offer(0, 1)
    bench.batchers[1].room = 1
    assert bench.offer(0, 1)
    assert bench.collector.late == frozenset()
    assert bench.batchers[1].added == 1
    bench.batchers[0].is_idle, bench.batchers[1].room = False, 0
    assert not bench.offer(0, 1)


def test_nobody_is_late_where_all_lack_room() -> None:
    bench = Bench(0, 0)
    bench.batchers[0].is_idle = True  # a batch that is nearly full, for instance
    assert not bench.offer(0, 1)
    assert bench.collector.late == frozenset()
