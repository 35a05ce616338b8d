"""One rollout worker as a child process: what it is called, and what is wrong with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from sf_algo.ipc.control import WorkerPhase, WorkerStatus
from sf_algo.processes.child import ChildProcess
from sf_algo.processes.copies import ForkedCopy
from sf_algo.processes.fork_server import ForkServer
from sf_algo.rollout.settings import WorkerSettings
from sf_algo.timing import ProcessTimes, Stage

_MODULE = "sf_algo.rollout.worker"
_DOING = {
    WorkerPhase.STARTING: "while it started",
    WorkerPhase.RESETTING: "while it started environment {}",
    WorkerPhase.STEPPING: "while it stepped environment {}",
    WorkerPhase.WAITING: "while it waited for actions",
    WorkerPhase.DONE: "while it ended",
}
_PLAYING = (WorkerPhase.RESETTING, WorkerPhase.STEPPING)


@dataclass(frozen=True, kw_only=True)
class WorkerFailure:
    """A worker that died without a word or hangs."""

    what: str
    """One line: which worker and environments, what happened, while doing what."""
    trace: str
    """The stack of the worker where it could still be had, else empty."""


class WorkerProcess(ChildProcess):
    """The process that runs a rollout worker."""

    def __init__(
        self,
        settings: WorkerSettings,
        status: WorkerStatus,
        forked_copy: ForkedCopy | None = None,
        fork_server: ForkServer | None = None,
        task_of: Callable[[int], str] = lambda env_index: "",
    ) -> None:
        """Starts the process, as `ChildProcess` says. Fills in `message_fd` and `trace_fd` of the settings.
        `task_of(env_index)`: what that environment plays, for messages."""
        self.settings = settings
        self._task_of = task_of
        self.status = status
        status.set_phase(WorkerPhase.STARTING)
        super().__init__(
            _MODULE,
            lambda messages, trace: replace(settings, message_fd=messages, trace_fd=trace),
            forked_copy,
            fork_server,
        )

    @property
    def name(self) -> str:
        first = self.settings.env_indices(0).start
        last = first + self.settings.num_envs - 1
        envs = f"environment {first}" if first == last else f"environments {first}-{last}"
        return f"rollout worker {self.settings.worker_index} ({envs})"

    @property
    def times(self) -> ProcessTimes:
        """How this worker (and its predecessors in the same place) have spent their time."""
        stepping, other = self.status.times_s
        busy = {Stage.ENVIRONMENT: stepping, Stage.TRANSPORT: other}
        return ProcessTimes(name=f"worker {self.settings.worker_index}", pid=self.pid, busy_s=busy)

    @property
    def start_under_way(self) -> tuple[str, float] | None:
        """What is being started, and since when (monotonic clock)."""
        if self.status.phase not in (WorkerPhase.STARTING, WorkerPhase.RESETTING):
            return None
        which = f", environment {self.status.env_index}" if self.status.env_index >= 0 else ""
        return f"{self.name}{which} to start", self.status.seen_at

    def failure(self, *, step_timeout_s: float, reset_timeout_s: float, back: float) -> WorkerFailure | None:
        """What is wrong with the worker now, if anything. Silence counts from `back` (monotonic clock) at the
        earliest."""
        phase = self.status.phase
        death = self.death
        if death is not None:
            return None if phase is WorkerPhase.DONE else self._failure(death)
        if phase in (WorkerPhase.STARTING, WorkerPhase.RESETTING):
            limit, flag = reset_timeout_s, "--reset_timeout_seconds"
        elif phase is WorkerPhase.STEPPING:
            limit, flag = step_timeout_s, "--heartbeat_interval"
        else:
            return None
        if time.monotonic() - max(self.status.seen_at, back) <= limit:
            return None
        self.ask_trace()
        return self._failure(f"has not answered for {limit:g} s (see {flag})")

    def _failure(self, how: str) -> WorkerFailure:
        phase, env_index = self.status.phase, self.status.env_index
        doing = _DOING[phase].format(env_index)
        task = self._task_of(env_index) if env_index >= 0 and phase in _PLAYING else ""
        return WorkerFailure(what=f"{self.name} {how} {doing}{f' ({task})' if task else ''}", trace=self.trace)
