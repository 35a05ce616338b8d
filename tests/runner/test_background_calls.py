"""Calls in threads, and saying things once."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable
from typing import Any

from sf_runner.backends.background_calls import BackgroundCalls
from sf_runner.basics.said import Said
from sf_runner.linux.wake_pipe import WakePipe

_PATIENCE_S = 60.0


def collect(calls: BackgroundCalls, wake: WakePipe, enough: Callable[[], bool]) -> None:
    while not enough():
        assert select.select([wake.fd], [], [], _PATIENCE_S)[0], "nothing happened for a minute"
        wake.drain()
        calls.collect()


def test_one_thread_answers_in_order_and_tells_of_exceptions() -> None:
    wake, answers = WakePipe(), list[Any]()
    calls = BackgroundCalls(wake)
    for number in (1, 0):
        calls.ask(lambda number=number: 1 // number, answers.append)  # type: ignore[misc]
    assert calls.busy
    collect(calls, wake, lambda: len(answers) == 2)
    assert answers[0] == 1
    assert isinstance(answers[1], ZeroDivisionError)
    assert not calls.busy
    assert calls.close()
    wake.close()


def test_several_threads_make_calls_side_by_side_and_no_more_than_that() -> None:
    wake, answers = WakePipe(), list[Any]()
    calls = BackgroundCalls(wake, threads=3)
    together = threading.Barrier(3, timeout=_PATIENCE_S)
    for _ in range(6):
        calls.ask(together.wait, answers.append)
    collect(calls, wake, lambda: len(answers) == 6)
    assert sorted(answers) == [0, 0, 1, 1, 2, 2]
    assert calls.close()
    wake.close()


def test_a_call_that_hangs_does_not_hold_up_who_leaves() -> None:
    wake, hang = WakePipe(), threading.Event()
    calls = BackgroundCalls(wake)
    calls.ask(hang.wait, print)
    assert not calls.close(0.0)
    hang.set()
    assert calls.close()
    wake.close()


def test_things_are_said_once_until_they_are_forgotten() -> None:
    said = Said()
    assert [said.first("gpu", 0), said.first("gpu", 0), said.first("gpu", 1), said.first("driver")] == [
        True, False, True, True,
    ]  # fmt: skip
    assert said.forget("gpu")
    assert not said.forget("gpu")
    assert [said.first("gpu", 1), said.first("driver")] == [True, False]
