"""A learner in a thread of its own: trains whenever a batch is full, and does errands in between."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from sf_algo.runtime.team import PolicyTeam, TrainedSink

T = TypeVar("T")


class LearnerThread:
    """Owns a team's learner while it runs.

    `nudge` tells it that a batch may be full; `call` runs a function between two iterations (to save or
    change the learner); `on_trained` and `on_room` are called in this thread after each iteration.
    """

    def __init__(
        self,
        team: PolicyTeam,
        *,
        env_steps: Callable[[], int],
        on_trained: TrainedSink,
        on_room: Callable[[], None],
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        """`prepare` runs first in the new thread (priority, number of torch threads)."""
        self._team = team
        self._env_steps = env_steps
        self._on_trained = on_trained
        self._on_room = on_room
        self._prepare = prepare
        self._wake = threading.Event()
        self._stopping = False
        self._errands: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self.error: BaseException | None = None
        """Why the thread ended, if it was not asked to."""
        self.waiting_s = 0.0
        self.training_s = 0.0
        self._thread = threading.Thread(target=self._run, name=f"learner-{team.policy_id}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def nudge(self) -> None:
        self._wake.set()

    def call(self, function: Callable[[], T], timeout_s: float | None = None) -> T:
        """Runs `function` in the learner's thread as soon as no training is under way; returns its result."""
        future: Future[T] = Future()
        self._errands.append((function, future))
        self._wake.set()
        if not self._thread.is_alive():
            self._do_errands()
        return future.result(timeout_s)

    def stop(self) -> None:
        """Ends the thread after the iteration under way, and waits for that."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            self._prepare()
            while not self._stopping:
                self._do_errands()
                if not self._train_once():
                    began = time.monotonic()
                    self._wake.wait()
                    self._wake.clear()
                    self.waiting_s += time.monotonic() - began
        except BaseException as error:
            self.error = error
        finally:
            self._do_errands()

    def _train_once(self) -> bool:
        full = self._team.batcher.take()
        if full is None:
            return False
        trained = self._team.train(full, self._env_steps())
        self.training_s += trained.seconds
        self._on_room()
        self._on_trained(trained)
        return True

    def _do_errands(self) -> None:
        while self._errands:
            function, future = self._errands.popleft()
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)
