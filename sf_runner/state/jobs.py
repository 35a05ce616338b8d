"""The states of one job as variants, each holding only the data that is valid in it, and the legal transitions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

StopReason = Literal["cancelled", "timeout", "stalled", "shutdown", "slot_lost", "preempted"]
"""Why the runner ended an attempt that had not ended by itself."""

Verdict = Literal["succeeded", "retry", "requeue", "failed", "cancelled"]
"""What follows from an ended attempt. `retry` counts against --max_retries, `requeue` does not (the machine or the
runner was to blame, not the job)."""

CauseKind = Literal[
    "exit", "signal", "exception", "gpu_oom", "host_oom", "timeout", "stalled", "lost", "spawn",
    "preempted", "node_failed", "cancelled",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class FailureCause:
    """Why an attempt failed, in one line, and a fingerprint that is equal for equal causes."""

    kind: CauseKind
    summary: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """Not started, or to be started again, at `not_before` (unix seconds) at the earliest, `delay_s` after its end."""

    not_before: float = 0.0
    delay_s: float = 0.0
    last_cause: FailureCause | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Submitted:
    """Handed to the backend; the journal knows of it before the process exists. `queued`: the backend queues by itself,
    so it may wait there for long."""

    attempt: int
    submitted_at: float
    placement: Mapping[str, Any]
    queued: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """Known to run. `handle` is whatever the backend needs to find it again, e.g. pid and start time. `slept_s`: how
    long the machine slept meanwhile."""

    attempt: int
    submitted_at: float
    started_at: float
    placement: Mapping[str, Any]
    handle: Mapping[str, Any]
    slept_s: float = 0.0

    def elapsed_s(self, now: float) -> float:
        """How long it has been running at `now` (unix seconds), sleep of the machine left out."""
        return max(0.0, now - self.started_at - self.slept_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stopping:
    """Told to end. It still holds its slot."""

    running: Running | Submitted
    reason: StopReason
    since: float

    @property
    def attempt(self) -> int:
        return self.running.attempt

    @property
    def placement(self) -> Mapping[str, Any]:
        return self.running.placement


@dataclass(frozen=True, kw_only=True, slots=True)
class Succeeded:
    """Exit code 0. Times are seconds since the epoch."""

    attempt: int
    ended_at: float
    duration_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    attempt: int
    ended_at: float
    duration_s: float
    cause: FailureCause


@dataclass(frozen=True, kw_only=True, slots=True)
class Cancelled:
    ended_at: float
    attempt: int = 0


Active = Submitted | Running | Stopping
JobState = Waiting | Submitted | Running | Stopping | Succeeded | Failed | Cancelled

ACTIVE = (Submitted, Running, Stopping)
ENDED = (Succeeded, Failed, Cancelled)


def running_of(state: JobState) -> Running | None:
    """What is known of an attempt that runs, also while it is being ended; None where there is none."""
    base = state.running if isinstance(state, Stopping) else state
    return base if isinstance(base, Running) else None


def last_cause(state: JobState) -> FailureCause | None:
    """Why it failed, or why it waits for another attempt."""
    if isinstance(state, Failed):
        return state.cause
    return state.last_cause if isinstance(state, Waiting) else None


_LEGAL: dict[type, tuple[type, ...]] = {
    Waiting: (Submitted, Cancelled),
    Submitted: (Running, Stopping, Waiting, Succeeded, Failed, Cancelled),
    Running: (Stopping, Waiting, Succeeded, Failed, Cancelled),
    Stopping: (Stopping, Waiting, Succeeded, Failed, Cancelled),
    # An ended job is started again only when somebody asks for it (--retry_failed, --changed=rerun, the retry key).
    Succeeded: (Waiting,),
    Failed: (Waiting,),
    Cancelled: (Waiting,),
}


_NO_PARAMS: Mapping[str, Any] = {}


class JournalLine(NamedTuple):
    """A line of the journal that describes jobs. `read(offset)`: its entries, read again; empty where it cannot be."""

    read: Callable[[int], Sequence[Mapping[str, Any]]]
    offset: int


class Details(NamedTuple):
    """What a plan says of a job that only people ask for: as long as everything else together."""

    argv: Sequence[str] = ()
    params: Mapping[str, Any] = _NO_PARAMS
    seed: str | None = None
    seed_param: str = "seed"


_NO_DETAILS = Details()


class DetailsOnDisk(NamedTuple):
    """Those of entry number `position` of a line of the journal."""

    line: JournalLine
    position: int

    def load(self, job_id: str) -> Details:
        entries = self.line.read(self.line.offset)
        entry = entries[self.position] if self.position < len(entries) else {}
        return _details(entry) if entry.get("id") == job_id else Details()


def _details(entry: Mapping[str, Any]) -> Details:
    return Details(
        entry.get("argv", ()), entry.get("params", _NO_PARAMS), entry.get("seed"), entry.get("seed_param", "seed")
    )


def is_queued(record: JobRecord) -> bool:
    """Whether it waits in the queue of its backend."""
    return isinstance(record.state, Submitted) and record.state.queued


class IllegalTransitionError(AssertionError):
    """A bug of ours: an event that makes no sense in the state a job is in."""


@dataclass(kw_only=True, slots=True)
class JobRecord:
    """Everything the runner knows of one job; changed only by the reducer in `run_state.py`.

    What the plan says of it (`fingerprint` to `details`) is described in `plan.Job`. Slots, and parts shared with the
    plan or left in the journal, because a run may have a hundred thousand.
    """

    job_id: str
    index: int
    rank: float
    planned: bool = True
    fingerprint: str = ""
    config: str = ""
    details: Details | DetailsOnDisk = _NO_DETAILS
    shape: str = ""
    """Jobs of one shape ask for the same resources; empty: what the run's settings say."""
    timeout_s: float | None = None
    """None: the run's setting."""
    state: JobState = field(default_factory=Waiting)
    attempts: int = 0
    """Attempts submitted so far; the next one is `attempts + 1`."""
    failures: int = 0
    """Attempts that count against --max_retries."""
    start_failures: int = 0
    """Attempts in a row that could not be started because of the machine."""
    losses: int = 0
    """Attempts in a row that were gone, and nobody knows how."""
    oom_failures: int = 0
    oom_room_mb: int | None = None
    """GPU memory that could be had where the last out-of-memory happened."""
    elapsed_s: float = 0.0
    """Wall time of all ended attempts."""

    @property
    def queue(self) -> str:
        """Jobs of one queue are placed in order of rank. After an out-of-memory a job needs more room than its
        like, which must not wait for it: it is a queue of its own."""
        return f"{self.shape}!{self.job_id}" if self.oom_failures else self.shape

    @property
    def argv(self) -> Sequence[str]:
        return self._details().argv

    @property
    def params(self) -> Mapping[str, Any]:
        return self._details().params

    @property
    def seed(self) -> str | None:
        return self._details().seed

    @property
    def seed_param(self) -> str:
        return self._details().seed_param

    def _details(self) -> Details:
        details = self.details
        return details if isinstance(details, Details) else details.load(self.job_id)

    def describe(self, entry: Mapping[str, Any], line: JournalLine | None = None, position: int = 0) -> None:
        """Take over what a complete entry of `JobsPlanned` or `JobsChanged` says of the job. `line`, `position`: where
        in the journal it stands."""
        self.fingerprint = entry["fp"]
        self.config = entry.get("config", "")
        self.details = _details(entry) if line is None else DetailsOnDisk(line, position)
        self.shape = entry.get("shape", "")
        self.timeout_s = entry.get("timeout_s")

    def move(self, state: JobState) -> None:
        """Change state; IllegalTransitionError when the states may not follow each other."""
        if not isinstance(state, _LEGAL[type(self.state)]):
            raise IllegalTransitionError(f"job {self.job_id}: {type(self.state).__name__} -> {type(state).__name__}")
        self.state = state
