"""`--max_parallel` across arrays against a small model of Slurm: the limit holds at all times, and all come to run."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sf_runner.backends.slurm.sharing import Load, Share, after_all, changes, has_to_wait, shares

LOADS = st.lists(
    st.builds(Load, tasks=st.integers(1, 300), side_by_side=st.integers(1, 4), blocked=st.booleans()),
    min_size=1,
    max_size=8,
)


@given(LOADS, st.integers(4, 300))
def test_shares_keep_to_the_limit_and_each_that_is_open_gets_one(loads: list[Load], limit: int) -> None:
    given_ = shares(loads, limit)
    if sum(load.wanted for load in loads) <= limit:
        assert set(given_) == {Share()}
        return
    opened = [(share, load) for share, load in zip(given_, loads, strict=True) if not share.blocked]
    used = sum(min(share.throttle, load.tasks) * load.side_by_side for share, load in opened)
    assert 0 < used <= limit
    assert all(share.throttle >= 1 for share, _ in opened)
    spare = limit - sum(load.side_by_side for _, load in opened)
    waiting = loads[len(opened) :]
    assert all(share.blocked for share in given_[len(opened) :]), "none overtakes another"
    assert not waiting or waiting[0].side_by_side > spare


def test_without_a_limit_nothing_waits() -> None:
    assert shares([Load(tasks=1000), Load(tasks=3, blocked=True)], None) == [Share(), Share()]
    assert changes([Load(tasks=5, throttle=2), Load(tasks=3, blocked=True)], None) == [(0, Share()), (1, Share())]


def test_room_is_given_away_once_it_is_seen() -> None:
    running = Load(tasks=10, running=2, throttle=2)
    retry = Load(tasks=1, blocked=True)
    assert changes([running, retry], 2) == [(0, Share(throttle=1))], "first the one is lowered"
    lowered = replace(running, throttle=1)
    assert changes([lowered, retry], 2) == [], "two of it run still"
    assert changes([replace(lowered, tasks=9, running=1), retry], 2) == [(1, Share(throttle=1))]


def test_with_one_at_a_time_the_others_wait_for_the_first() -> None:
    loads = [Load(tasks=3, running=1, throttle=1), Load(tasks=1, blocked=True), Load(tasks=1, blocked=True)]
    assert changes(loads, 1) == []
    assert changes([loads[1], loads[2]], 1) == [(0, Share(throttle=1))]


def test_a_lower_limit_at_the_next_start_has_arrays_wait_that_did_not() -> None:
    loads = [Load(tasks=5, running=2), Load(tasks=5, running=2), Load(tasks=5, running=2)]
    assert changes(loads, 1) == [
        (0, Share(throttle=1)),
        (1, Share(throttle=1, blocked=True)),
        (2, Share(throttle=1, blocked=True)),
    ]


def test_dependencies_are_written_as_sbatch_takes_them() -> None:
    assert after_all(["4", "7"]) == "afterany:4:7"
    assert after_all(["4"], "afterok:99") == "afterany:4,afterok:99"
    assert after_all([], "afterok:99") == "afterok:99"
    assert after_all([]) == ""


@dataclass
class MiniSlurm:
    """Starts what it may, whenever it likes."""

    limit: int
    rng: random.Random
    arrays: list[Load] = field(default_factory=list)
    after: list[set[int]] = field(default_factory=list)

    def check(self) -> None:
        assert sum(array.running * array.side_by_side for array in self.arrays) <= self.limit

    def submit(self, tasks: int, side_by_side: int) -> None:
        load = Load(tasks=tasks, side_by_side=side_by_side)
        live = {number for number, array in enumerate(self.arrays) if array.tasks}
        waits = has_to_wait([self.arrays[number] for number in live], load, self.limit)
        throttle = 0 if load.wanted <= self.limit else self.limit // side_by_side
        self.arrays.append(replace(load, throttle=throttle, blocked=waits))
        self.after.append(live if waits else set())

    def step(self) -> None:
        number = self.rng.randrange(len(self.arrays))
        array = self.arrays[number]
        if array.blocked and not any(self.arrays[other].tasks for other in self.after[number]):
            array = replace(array, blocked=False)
        if array.running and self.rng.random() < 0.4:
            array = replace(array, running=array.running - 1, tasks=array.tasks - 1)
        elif not array.blocked and array.running < min(array.throttle or array.tasks, array.tasks):
            array = replace(array, running=array.running + 1)
        self.arrays[number] = array
        self.check()

    def tell(self, number: int, share: Share) -> None:
        self.arrays[number] = replace(self.arrays[number], throttle=share.throttle, blocked=share.blocked)
        if share.blocked:
            self.after[number] = {other for other in range(number) if self.arrays[other].tasks}


@pytest.mark.parametrize("seed", range(100))
@pytest.mark.parametrize("runner", [True, False])
def test_the_limit_holds_at_every_moment_and_all_come_to_run(seed: int, runner: bool) -> None:
    rng = random.Random(seed)
    limit = rng.randint(1, 8)
    slurm = MiniSlurm(limit=limit, rng=rng)
    to_come = [(rng.randint(1, 12), rng.randint(1, min(3, limit))) for _ in range(rng.randint(1, 8))]
    for _ in range(10_000):
        if to_come and rng.random() < 0.3:
            slurm.submit(*to_come.pop())
        live = [number for number, array in enumerate(slurm.arrays) if array.tasks]
        if not live and not to_come:
            return
        told = changes([slurm.arrays[number] for number in live], limit) if runner and live else []
        for _ in range(rng.randrange(12) if slurm.arrays else 0):
            slurm.step()  # what was seen is old by the time that Slurm is told
        for at, share in told:
            if slurm.arrays[live[at]].tasks:
                slurm.tell(live[at], share)
                slurm.check()
    raise AssertionError(f"{[array.tasks for array in slurm.arrays]} tasks never ran")
