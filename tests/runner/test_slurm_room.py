"""How much Slurm takes is learned from what it takes and refuses."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sf_runner.backends.slurm.room import LearnedRoom


class LimitedSlurm:
    """Takes `limit` tasks at a time; each lasts `task_s`."""

    def __init__(self, limit: int, task_s: float) -> None:
        self.limit, self.task_s = limit, task_s
        self.now = 0.0
        self.ends: list[float] = []
        self.calls = 0

    @property
    def live(self) -> int:
        self.ends = [end for end in self.ends if end > self.now]
        return len(self.ends)

    def takes(self, tasks: int) -> bool:
        self.calls += 1
        if self.live + tasks > self.limit:
            return False
        self.ends += [self.now + self.task_s] * tasks
        return True


def submit(slurm: LimitedSlurm, room: LearnedRoom, tasks: int) -> int:
    """How many of so many tasks it took, cut as often as it asked for it."""
    while tasks:
        if slurm.takes(tasks):
            room.taken(tasks, slurm.live, slurm.now)
            return tasks
        tasks = room.refused(tasks, slurm.live, slurm.now, "limit")
    return 0


@given(st.integers(1, 60), st.integers(1, 200), st.floats(1, 100))
def test_everything_gets_in_and_slurm_is_kept_full(limit: int, tasks: int, task_s: float) -> None:
    slurm, room = LimitedSlurm(limit, task_s), LearnedRoom()
    left = tasks
    while left:
        found = room.free(slurm.live, slurm.now)
        number, wait_s = (left, 0.0) if found is None else found
        if number:
            left -= submit(slurm, room, min(number, left))
        else:
            assert wait_s > 0
            slurm.now += min(wait_s, 0.5)
        assert slurm.now < (tasks / limit + 1) * (task_s + 70), "as fast as the limit allows, but for a minute a round"
    assert slurm.calls < 10 * tasks + 200


def test_without_a_refusal_nothing_is_held_back() -> None:
    room = LearnedRoom()
    assert room.free(0, 0.0) is None
    room.taken(500, 500, 0.0)
    assert room.free(500, 1.0) is None


def test_an_array_is_halved_until_it_is_taken_and_the_rest_of_the_room_is_found() -> None:
    slurm, room = LimitedSlurm(10, 100.0), LearnedRoom()
    assert submit(slurm, room, 40) == 10
    assert room.free(10, 0.0) == (5, 0.0), "there may be room for more"
    assert submit(slurm, room, 5) == 0
    assert room.free(10, 1.0) == (0, 4.0)
    slurm.now = 200.0
    assert room.free(slurm.live, slurm.now) == (10, 0.0), "as many as had room before"


def test_a_limit_that_is_raised_is_noticed() -> None:
    slurm, room = LimitedSlurm(4, 1e6), LearnedRoom()
    assert submit(slurm, room, 100) == 3
    slurm.limit = 1000
    taken = 3
    while taken < 100:
        number, wait_s = room.free(slurm.live, slurm.now) or (0, 0.0)
        taken += submit(slurm, room, min(number, 100 - taken)) if number else 0
        slurm.now += wait_s
    assert slurm.calls < 20


def test_a_user_whose_other_jobs_take_the_room_waits_ever_longer() -> None:
    room = LearnedRoom()
    waits = []
    now = 0.0
    for _ in range(6):
        assert room.refused(1, 0, now, "limit") == 0
        _, wait_s = room.free(0, now) or (0, 0.0)
        waits.append(wait_s)
        now += wait_s
        assert room.free(0, now) == (1, 0.0)
    assert waits == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
