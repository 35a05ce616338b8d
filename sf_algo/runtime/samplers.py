"""Sampling with worker processes: synchronous (inference and learning take turns) and asynchronous (at the
same time).

Both have the shape that `sf_algo.runtime.training` drives: `open`, `work(until)`, `call_learner`, `close`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from sf_algo.runtime.hub import SamplingHub
from sf_algo.runtime.learner_thread import LearnerThread
from sf_algo.runtime.stopping import StopCondition
from sf_algo.runtime.team import PolicyTeam, TrainedSink
from sf_algo.runtime.transport import Transport
from sf_algo.runtime.worker_pool import WorkerPool

T = TypeVar("T")

_LISTEN_S = 0.2
_HUB_TURN_S = 0.5
_SYNC_TURN_S = 0.02


class Sampler(Protocol):
    """Collects experience and has the teams train on it."""

    def work(self, until: float) -> None:
        """Goes on until that moment (monotonic clock), or returns early. Raises what went wrong."""

    def call_learner(self, policy_id: int, function: Callable[[], T]) -> T:
        """Runs `function` while that policy's learner does nothing else."""

    def stage_seconds(self) -> Mapping[str, float]:
        """Seconds that each stage has been busy since the start, by its name."""

    def close(self) -> None:
        """Ends everything; may be called twice, and after an error."""


class SyncSampler:
    """Workers step while the main thread serves them; it trains as soon as an iteration is complete."""

    def __init__(
        self,
        pool: WorkerPool,
        hub: SamplingHub,
        teams: Sequence[PolicyTeam],
        transport: Transport,
        *,
        stop: StopCondition,
        env_steps: Callable[[], int],
        on_trained: TrainedSink,
    ) -> None:
        self._pool = pool
        self._transport = transport
        self._hub = hub
        self._teams = teams
        self._stop = stop
        self._env_steps = env_steps
        self._on_trained = on_trained
        self._step = hub.plan.slots_per_iteration
        hub.slots_allowed = self._step
        self._training_s = 0.0

    def work(self, until: float) -> None:
        next_listen = 0.0
        while (now := time.monotonic()) < until and self._stop.reason is None:
            if now >= next_listen:
                self._pool.listen(0.0)
                next_listen = now + _SYNC_TURN_S
            self._hub.turn(_SYNC_TURN_S)
            for team in self._teams:
                while (full := team.batcher.take()) is not None:
                    trained = team.train(full, self._env_steps())
                    self._training_s += trained.seconds
                    if self._hub.slots_allowed is not None and self._step is not None:
                        self._hub.slots_allowed += self._step
                    self._on_trained(trained)

    def call_learner(self, policy_id: int, function: Callable[[], T]) -> T:
        return function()

    def stage_seconds(self) -> Mapping[str, float]:
        times = self._hub.times
        return {"inference": times.serving, "learner": self._training_s, "environments": times.waiting}

    def close(self) -> None:
        self._pool.stop()
        self._transport.close()


class AsyncSampler:
    """The hub and every learner run in threads; the main thread looks after the workers."""

    def __init__(
        self,
        pool: WorkerPool,
        hub: SamplingHub,
        teams: Sequence[PolicyTeam],
        transport: Transport,
        *,
        env_steps: Callable[[], int],
        on_trained: TrainedSink,
        prepare_hub: Callable[[], None],
        prepare_learner: Callable[[], None],
    ) -> None:
        """`prepare_*` run first in the threads: priorities, number of torch threads."""
        self._pool = pool
        self._transport = transport
        self._hub = hub
        self._prepare_hub = prepare_hub
        self._stopping = False
        self._hub_error: BaseException | None = None
        self._hub_thread = threading.Thread(target=self._run_hub, name="hub", daemon=True)
        self._learners = [
            LearnerThread(
                team,
                env_steps=env_steps,
                on_trained=on_trained,
                on_room=hub.bell.ring,
                prepare=prepare_learner,
            )
            for team in teams
        ]
        self._teams = teams
        self._hub_thread.start()
        for learner in self._learners:
            learner.start()

    def _run_hub(self) -> None:
        try:
            self._prepare_hub()
            while not self._stopping:
                self._hub.turn(_HUB_TURN_S)
                for team, learner in zip(self._teams, self._learners, strict=True):
                    if team.batcher.num_full:
                        learner.nudge()
        except BaseException as error:
            self._hub_error = error

    def work(self, until: float) -> None:
        self._pool.listen(max(0.0, min(_LISTEN_S, until - time.monotonic())))
        for error in (self._hub_error, *(learner.error for learner in self._learners)):
            if error is not None:
                raise error

    def call_learner(self, policy_id: int, function: Callable[[], T]) -> T:
        return self._learners[policy_id].call(function)

    def stage_seconds(self) -> Mapping[str, float]:
        training = sum(learner.training_s for learner in self._learners) / len(self._learners)
        times = self._hub.times
        return {"inference": times.serving, "learner": training, "environments": times.waiting}

    def close(self) -> None:
        self._stopping = True
        self._hub.bell.ring()
        for learner in self._learners:
            learner.stop()
        self._hub_thread.join()
        self._pool.stop()
        self._transport.close()
