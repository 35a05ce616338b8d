"""Sampling with worker processes: synchronous (inference and learning take turns) and asynchronous (at the
same time).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from sf_algo.acting.hub import SamplingHub
from sf_algo.errors import WorkerError
from sf_algo.learning.learners import Learners, LocalLearners
from sf_algo.processes.absence import AbsenceWatch
from sf_algo.processes.stopping import StopCondition
from sf_algo.sampling.transport import Transport
from sf_algo.sampling.worker_pool import WorkerPool
from sf_algo.timing import ProcessTimes

_LISTEN_S = 0.2
_HUB_TURN_S = 0.5
_SYNC_TURN_S = 0.02
_JOIN_S = 10.0
HUB_TIMEOUT_S = 300.0
"""A forward pass that takes longer than this will never end."""


class Sampler(Protocol):
    """Collects experience and hands it to the learners."""

    def work(self, until: float) -> None:
        """Goes on until that moment (monotonic clock), or returns early. Raises what went wrong."""

    @property
    def has_begun(self) -> bool:
        """Whether an environment has made a step: its first one may take as long as a start."""

    def stage_seconds(self) -> Mapping[str, float]:
        """Seconds that each stage beside the learners has been busy since the start, by its name."""

    def process_times(self) -> Sequence[ProcessTimes]:
        """See `Timed`."""

    def close(self) -> None:
        """Ends everything; may be called twice, and after an error."""


class _WithWorkers:
    """What samplers with worker processes share."""

    def __init__(self, pool: WorkerPool, hub: SamplingHub, transport: Transport) -> None:
        self._pool = pool
        self._hub = hub
        self._transport = transport

    @property
    def has_begun(self) -> bool:
        return self._hub.has_begun

    def stage_seconds(self) -> Mapping[str, float]:
        return self._hub.stage_seconds()

    def process_times(self) -> Sequence[ProcessTimes]:
        return [
            ProcessTimes(name="main process", pid=os.getpid(), busy_s=self._hub.busy_s()),
            *self._pool.process_times(),
        ]

    def close(self) -> None:
        self._pool.stop()
        self._transport.close()


class SyncSampler(_WithWorkers):
    """Workers step while the main thread serves them, for as many rounds as nobody can have a batch before. Then nobody
    acts: the main thread trains whoever has one, and policies may be changed."""

    def __init__(
        self,
        pool: WorkerPool,
        hub: SamplingHub,
        learners: LocalLearners,
        transport: Transport,
        stop: StopCondition,
        on_iteration: Callable[[], None],
    ) -> None:
        """`on_iteration` is called between rounds, when nobody acts."""
        super().__init__(pool, hub, transport)
        self._learners = learners
        self._stop = stop
        self._on_iteration = on_iteration
        self._rounds = 0
        self._allow_rounds()

    def work(self, until: float) -> None:
        next_listen = 0.0
        while (now := time.monotonic()) < until and self._stop.reason is None:
            if now >= next_listen:
                self._pool.listen(0.0)
                next_listen = now + _SYNC_TURN_S
            self._hub.turn(_SYNC_TURN_S)
            if self._hub.is_through:
                self._learners.train_ready()
                self._on_iteration()
                self._allow_rounds()

    def _allow_rounds(self) -> None:
        """As many more as go on without a look at the batches: only the last of them can bring one to its size."""
        most = max(policy.rounds.columns for policy in self._hub.collector.policies)
        self._rounds += self._hub.plan.rounds_to_fill(most)
        self._hub.slots_allowed = self._rounds


class AsyncSampler(_WithWorkers):
    """The hub runs in a thread, the learners beside it; the main thread looks after the workers."""

    def __init__(self, pool: WorkerPool, hub: SamplingHub, learners: Learners, transport: Transport) -> None:
        super().__init__(pool, hub, transport)
        self._learners = learners
        self._stopping = False
        self._error: BaseException | None = None
        self._last_turn = time.monotonic()
        self._absence = AbsenceWatch(HUB_TIMEOUT_S)
        self._thread = threading.Thread(target=self._run_hub, name="hub", daemon=True)
        self._thread.start()

    def _run_hub(self) -> None:
        try:
            while not self._stopping:
                self._hub.turn(_HUB_TURN_S)
                self._last_turn = time.monotonic()
                self._learners.train_ready()
                self._learners.poll(0.0)
        except BaseException as error:
            self._error = error

    def work(self, until: float) -> None:
        self._pool.listen(max(0.0, min(_LISTEN_S, until - time.monotonic())))
        if self._error is not None:
            raise self._error
        if time.monotonic() - max(self._last_turn, self._absence.look()) > HUB_TIMEOUT_S:
            raise WorkerError(f"inference has not finished a forward pass for {HUB_TIMEOUT_S:g} s")

    def close(self) -> None:
        self._stopping = True
        self._hub.bell.ring()
        self._thread.join(_JOIN_S)
        super().close()
