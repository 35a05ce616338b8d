"""Learners in threads of the main process: for GPUs, where one process holds the only context."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

from sf_algo.acting.policy_sampling import PolicySampling
from sf_algo.learning.learners import LocalLearners
from sf_algo.timing import ProcessTimes

T = TypeVar("T")

_ALIVE_CHECK_S = 1.0


class LearnerThread:
    """Trains one policy whenever a batch is full, and does calls of others in between."""

    def __init__(
        self,
        policy: PolicySampling,
        local: LocalLearners,
        *,
        on_room: Callable[[], None],
        prepare: Callable[[], None],
    ) -> None:
        """`prepare` runs first in the new thread; `on_room` whenever a batch buffer is free again."""
        self._policy = policy
        self._local = local
        self._on_room = on_room
        self._prepare = prepare
        self._wake = threading.Event()
        self._stopping = False
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self.error: BaseException | None = None
        """Why the thread ended, if it was not asked to."""
        self._thread = threading.Thread(target=self._run, name=f"learner-{policy.policy_id}", daemon=True)
        self._thread.start()

    def nudge(self) -> None:
        """A batch may be full."""
        self._wake.set()

    def call(self, function: Callable[[], T]) -> T:
        """Runs `function` in the learner's thread as soon as no training is under way; returns its result."""
        future: Future[T] = Future()
        self._calls.append((function, future))
        self._wake.set()
        while True:
            try:
                return future.result(_ALIVE_CHECK_S)
            except FutureTimeoutError:
                if future.done():
                    raise
                if not self._thread.is_alive():
                    self._run_calls()

    def stop(self) -> None:
        """Ends the thread after the iteration under way, and waits for that."""
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._prepare()
            while not self._stopping:
                self._run_calls()
                if self._local.train_one(self._policy):
                    self._on_room()
                else:
                    self._wake.wait()
                    self._wake.clear()
        except BaseException as error:
            self.error = error
        finally:
            self._run_calls()

    def _run_calls(self) -> None:
        while self._calls:
            function, future = self._calls.popleft()
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)


class ThreadLearners:
    """One thread per policy."""

    def __init__(
        self,
        policies: Sequence[PolicySampling],
        local: LocalLearners,
        *,
        on_room: Callable[[], None],
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        self._local = local
        self._threads = [LearnerThread(t, local, on_room=on_room, prepare=prepare) for t in policies]

    def train_ready(self) -> None:
        for thread in self._threads:
            thread.nudge()

    def poll(self, timeout_s: float) -> None:
        for thread in self._threads:
            if thread.error is not None:
                raise thread.error
        if timeout_s > 0:
            time.sleep(timeout_s)

    def state(self, policy_id: int) -> Mapping[str, Any]:
        return self._threads[policy_id].call(lambda: self._local.state(policy_id))

    def load(self, policy_id: int, state: Mapping[str, Any]) -> int:
        return self._threads[policy_id].call(lambda: self._local.load(policy_id, state))

    def process_times(self) -> Sequence[ProcessTimes]:
        return self._local.process_times()

    @property
    def training_s(self) -> float:
        return self._local.training_s / len(self._threads)

    def close(self) -> None:
        for thread in self._threads:
            thread.stop()
