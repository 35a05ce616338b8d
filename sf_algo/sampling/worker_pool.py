"""All worker processes of a run: started together, listened to, healed or given up, and ended without
remains."""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from sf_algo.errors import WorkerError
from sf_algo.ipc.messages import Message
from sf_algo.processes.absence import AbsenceWatch
from sf_algo.processes.copies import ForkedCopy
from sf_algo.processes.fork_server import ForkServer
from sf_algo.processes.restarts import Restarts
from sf_algo.processes.slow import SlowWatch
from sf_algo.rollout.env_set import EnvFault
from sf_algo.rollout.episodes import EpisodeReport, mix_seed
from sf_algo.rollout.settings import WorkerSettings
from sf_algo.sampling.faults import FaultLog
from sf_algo.sampling.transport import Transport
from sf_algo.sampling.worker_process import WorkerFailure, WorkerProcess
from sf_algo.timing import ProcessTimes

log = logging.getLogger(__name__)

MAX_RESTARTS = 3
"""Restarts of one worker within `RESTART_WINDOW_S` before the run is given up."""
RESTART_WINDOW_S = 600.0
_CHECK_INTERVAL_S = 0.2
_STOP_GRACE_S = 5.0


@dataclass(frozen=True, kw_only=True)
class WorkerTimeouts:
    """How long a worker may be silent (s)."""

    step_s: float
    reset_s: float


class WorkerPool:
    """The workers of a run. All methods belong to the main thread.

    A worker that dies or hangs is replaced: its environments begin new episodes, its unfinished slots are
    filled anew. One that reports an error of its own, or breaks too often, ends the run with a WorkerError.
    """

    def __init__(
        self,
        transport: Transport,
        settings: Sequence[WorkerSettings],
        timeouts: WorkerTimeouts,
        *,
        on_episodes: Callable[[list[EpisodeReport]], None],
        clean_up: Callable[[], None],
        forked_copies: Sequence[ForkedCopy] = (),
        fork_server: ForkServer | None = None,
        task_of: Callable[[int], str] = lambda env_index: "",
    ) -> None:
        """`task_of(env_index)`: what that environment plays, for messages. `forked_copies` become the first workers,
        `fork_server` forks those that replace them. `clean_up` runs after workers have been killed (what their engines
        left behind is removed)."""
        self._transport = transport
        self._settings = settings
        self._timeouts = timeouts
        self._on_episodes = on_episodes
        self._clean_up = clean_up
        self._forked_copies = forked_copies
        self._fork_server = fork_server
        self._task_of = task_of
        self._workers: list[WorkerProcess] = []
        self._restarts = [Restarts(MAX_RESTARTS, RESTART_WINDOW_S) for _ in settings]
        self._next_check = 0.0
        self._absence = AbsenceWatch(min(timeouts.step_s, timeouts.reset_s))
        self._faults = FaultLog()
        self._slow = SlowWatch(self._longest_start, lambda line: log.info("%s", line))
        self.num_restarts = 0
        self.num_ready = 0

    def start(self) -> None:
        for settings, forked_copy in zip_longest(self._settings, self._forked_copies[: len(self._settings)]):
            self._workers.append(self._launch(settings, forked_copy))

    def _launch(self, settings: WorkerSettings, forked_copy: ForkedCopy | None = None) -> WorkerProcess:
        status = self._transport.control.status(settings.worker_index)
        return WorkerProcess(settings, status, forked_copy, self._fork_server, self._task_of)

    @property
    def pids(self) -> list[int]:
        return [worker.pid for worker in self._workers]

    def process_times(self) -> list[ProcessTimes]:
        return [worker.times for worker in self._workers]

    def listen(self, timeout_s: float) -> None:
        """Takes messages and looks after the workers, waiting at most `timeout_s` for something to happen.

        Raises:
            WorkerError: a worker reported an error, or keeps breaking.
        """
        by_fd = {worker.messages.fd: worker for worker in self._workers if not worker.messages.closed}
        poll = select.poll()
        for fd in by_fd:
            poll.register(fd, select.POLLIN)
        for fd, _ in poll.poll(timeout_s * 1000):
            self._take_messages(by_fd[fd])
        now = time.monotonic()
        if now >= self._next_check:
            self._next_check = now + _CHECK_INTERVAL_S
            self._check_all(now)

    def _take_messages(self, worker: WorkerProcess) -> None:
        for message in worker.read():
            self._handle(worker, message)
        if worker.messages.closed:
            self._next_check = 0.0  # it has just died: look at once

    def _handle(self, worker: WorkerProcess, message: Message) -> None:
        kind = message["kind"]
        if kind == "episodes":
            self._on_episodes([EpisodeReport.from_message(item) for item in message["items"]])
        elif kind == "ready":
            self.num_ready += 1
        elif kind == "fault":
            self._faults.add(worker.name, EnvFault(**message["fault"]))
        elif kind == "error":
            raise _reported_error(worker, message)

    def _check_all(self, now: float) -> None:
        limits, back = self._timeouts, self._absence.look()
        self._slow.look(now)
        for index, worker in enumerate(self._workers):
            failure = worker.failure(step_timeout_s=limits.step_s, reset_timeout_s=limits.reset_s, back=back)
            if failure is not None:
                self._take_messages_of_the_dead(worker)
                self._replace(index, failure, now)

    def _longest_start(self) -> tuple[str, float] | None:
        """Which environment has been started for the longest time, and since when."""
        starts = [start for worker in self._workers if (start := worker.start_under_way) is not None]
        return min(starts, key=lambda start: start[1], default=None)

    def _take_messages_of_the_dead(self, worker: WorkerProcess) -> None:
        """Its last words explain the death better than its exit code."""
        for message in worker.read():
            self._handle(worker, message)

    def _replace(self, index: int, failure: WorkerFailure, now: float) -> None:
        self._workers[index].close()
        self._clean_up()
        restarts = self._restarts[index]
        trace = f":\n{failure.trace}" if failure.trace else ""
        number = restarts.begin(now)
        if not number:
            raise WorkerError(f"{failure.what}; it broke {restarts.exceeded}{trace}")
        self.num_restarts += 1
        log.warning("%s; it is started again (%d of %d)%s", failure.what, number, restarts.most, trace)
        # With the same seed it would play the same first episodes once more.
        again = self._settings[index]
        self._workers[index] = self._launch(replace(again, seed=mix_seed(again.seed, self.num_restarts)))

    def stop(self) -> None:
        """Ends all workers, politely at first; nothing of theirs is left afterwards. May be called twice."""
        self._transport.order_stop()
        deadline = time.monotonic() + _STOP_GRACE_S
        try:
            for worker in self._workers:
                while not worker.wait(0.02) and time.monotonic() < deadline:
                    worker.read()  # a worker that blocks on a full pipe would never see the order
        finally:
            for worker in self._workers:
                worker.close()
            if self._workers:
                self._clean_up()
            self._workers.clear()


def _reported_error(worker: WorkerProcess, message: Message) -> WorkerError:
    trace = f"\n{message['traceback'].rstrip()}" if message["traceback"] else ""
    env = f" (environment {message['env_index']})" if message["env_index"] >= 0 else ""
    error = WorkerError(f"{worker.name} failed{env}: {message['message']}{trace}")
    error.exit_code = message["exit_code"]
    return error
