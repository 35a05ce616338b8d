"""Learners in threads of the main process: for GPUs, where one process holds the only context."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from typing import Any, TypeVar

from sf_algo.acting.policies import TrainedPolicy
from sf_algo.errors import WorkerError
from sf_algo.learning.learners import LocalLearners, PolicyChange
from sf_algo.timing import ProcessTimes

T = TypeVar("T")

_ALIVE_CHECK_S = 1.0


class LearnerThread:
    """Trains one policy whenever a batch is full, and does calls of others in between."""

    def __init__(
        self,
        policy: TrainedPolicy,
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
        self._calls: deque[tuple[Callable[[], Future[Any]], Future[Any]]] = deque()
        self.error: BaseException | None = None
        """Why the thread ended, if it was not asked to."""
        self._thread = threading.Thread(target=self._run, name=f"learner-{policy.policy_id}", daemon=True)
        self._thread.start()

    def nudge(self) -> None:
        """A batch may be full."""
        self._wake.set()

    def call(self, function: Callable[[], Future[T]]) -> Future[T]:
        """Has `function` called in the learner's thread as soon as no training is under way; what comes of it."""
        future: Future[T] = Future()
        self._calls.append((function, future))
        self._wake.set()
        if not self.is_alive:
            self._run_calls()
        return future

    def wait(self, future: Future[T], timeout_s: float | None) -> T:
        """The result of a call. Raises WorkerError where it is not there in time."""
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while not future.done():
            with suppress(FutureTimeoutError):
                return future.result(_ALIVE_CHECK_S)
            if not self.is_alive:
                self._run_calls()
            if not future.done() and time.monotonic() > deadline:
                name = f"the learner of policy {self._policy.policy_id}"
                raise WorkerError(f"{name} has not answered for {timeout_s:g} s")
        return future.result()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

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
            answer = function()
            error = answer.exception()
            if error is None:
                future.set_result(answer.result())
            else:
                future.set_exception(error)


class ThreadLearners:
    """One thread per policy."""

    def __init__(
        self,
        policies: Sequence[TrainedPolicy],
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

    def ask_state(self, policy_id: int) -> Future[Mapping[str, Any]]:
        return self._threads[policy_id].call(lambda: self._local.ask_state(policy_id))

    def ask_load(self, policy_id: int, state: Mapping[str, Any]) -> Future[int]:
        return self._threads[policy_id].call(lambda: self._local.ask_load(policy_id, state))

    def ask_change(self, policy_id: int, what: PolicyChange) -> Future[int]:
        return self._threads[policy_id].call(lambda: self._local.ask_change(policy_id, what))

    def wait(self, policy_id: int, future: Future[T], timeout_s: float | None = None) -> T:
        return self._threads[policy_id].wait(future, timeout_s)

    def process_times(self) -> Sequence[ProcessTimes]:
        return self._local.process_times()

    @property
    def training_s(self) -> float:
        return self._local.training_s / len(self._threads)

    def close(self) -> None:
        for thread in self._threads:
            thread.stop()
