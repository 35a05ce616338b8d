"""A driver that is slow or hangs does not stop the caller."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from sf_runner.slots.devices import GpuInfo, GpuSnapshot
from sf_runner.slots.probe import GpuProbe


class SlowDriver:
    """Answers when the test lets it."""

    def __init__(self) -> None:
        self.may_answer = threading.Semaphore(0)
        self.answered = 0
        self.closed = threading.Event()

    def snapshot(self) -> GpuSnapshot:
        self.may_answer.acquire()
        self.answered += 1
        gpu = GpuInfo(
            uuid="GPU-a",
            index=0,
            memory_total_mb=100,
            memory_free_mb=100 - self.answered,
            memory_used_mb=self.answered,
            processes=(),
        )
        return GpuSnapshot(gpus=(gpu,), driver="550")

    def close(self) -> None:
        self.closed.set()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def driver() -> Iterator[SlowDriver]:
    driver = SlowDriver()
    yield driver
    driver.may_answer.release(10)  # lets the thread end


def probe_of(driver: SlowDriver, clock: Clock, patience_s: float = 30.0) -> GpuProbe:
    return GpuProbe(driver, patience_s=patience_s, first_patience_s=30.0, clock=clock)


def test_a_prompt_answer_is_handed_over_at_once(driver: SlowDriver) -> None:
    probe = probe_of(driver, Clock())
    for used in (1, 2, 3):
        driver.may_answer.release()
        snapshot = probe.snapshot()
        assert (snapshot.gpus[0].memory_used_mb, snapshot.age_s) == (used, 0.0)
    probe.close()
    assert driver.closed.is_set()


def test_while_an_answer_is_overdue_the_last_one_is_repeated_with_its_age(driver: SlowDriver) -> None:
    clock = Clock()
    driver.may_answer.release()
    probe = probe_of(driver, clock, patience_s=0.001)
    probe.snapshot()
    clock.now = 5.0
    overdue = probe.snapshot()
    assert (overdue.gpus[0].memory_used_mb, overdue.age_s, overdue.warnings) == (1, 5.0, ())
    clock.now = 15.0
    assert [w.message for w in probe.snapshot().warnings] == [
        "The NVIDIA driver has not answered for 10 s (a hung GPU? see `dmesg`): nothing new is known about the GPUs."
    ]
    assert probe.snapshot().warnings == ()
    clock.now = 20.0
    driver.may_answer.release()
    while (late := probe.snapshot()).gpus[0].memory_used_mb == 1:
        pass
    assert (late.gpus[0].memory_used_mb, late.age_s) == (2, 15.0)
    assert [w.message for w in late.warnings] == ["The NVIDIA driver answers again."]


def test_a_driver_that_never_answers_means_no_gpus_and_one_line(driver: SlowDriver) -> None:
    probe = GpuProbe(driver, first_patience_s=0.001)
    first = probe.snapshot()
    assert (first.gpus, [w.kind for w in first.warnings]) == ((), ["driver"])
    assert probe.snapshot().warnings == ()
    probe.close()  # does not wait for it
    assert not driver.closed.is_set()
