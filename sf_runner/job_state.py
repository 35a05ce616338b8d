"""The states of one job as variants, each holding only the data that is valid in it, and the legal transitions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

StopReason = Literal["cancelled", "timeout", "stalled", "shutdown", "slot_lost", "preempted"]
"""Why the runner ended an attempt that had not ended by itself."""

Verdict = Literal["succeeded", "retry", "requeue", "failed", "cancelled"]
"""What follows from an ended attempt. `retry` counts against --max_retries, `requeue` does not (the machine or the
runner was to blame, not the job)."""

CauseKind = Literal["exit", "signal", "exception", "gpu_oom", "host_oom", "timeout", "stalled", "lost", "spawn"]


@dataclass(frozen=True, kw_only=True)
class FailureCause:
    """Why an attempt failed, in one line, and a fingerprint that is equal for equal causes."""

    kind: CauseKind
    summary: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Not started, or to be started again, at `not_before` (unix seconds) at the earliest."""

    not_before: float = 0.0
    last_cause: FailureCause | None = None


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """Handed to the backend; the journal knows of it before the process exists."""

    attempt: int
    submitted_at: float
    placement: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Running:
    """Known to run. `handle` is whatever the backend needs to find it again, e.g. pid and start time."""

    attempt: int
    submitted_at: float
    started_at: float
    placement: Mapping[str, Any]
    handle: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
class Succeeded:
    attempt: int
    ended_at: float
    duration_s: float


@dataclass(frozen=True, kw_only=True)
class Failed:
    attempt: int
    ended_at: float
    duration_s: float
    cause: FailureCause


@dataclass(frozen=True, kw_only=True)
class Cancelled:
    ended_at: float
    attempt: int = 0


Active = Submitted | Running | Stopping
JobState = Waiting | Submitted | Running | Stopping | Succeeded | Failed | Cancelled

ACTIVE = (Submitted, Running, Stopping)
ENDED = (Succeeded, Failed, Cancelled)

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


class IllegalTransitionError(AssertionError):
    """A bug of ours: an event that makes no sense in the state a job is in."""


@dataclass(kw_only=True)
class JobRecord:
    """Everything the runner knows of one job; changed only by the reducer in `run_state.py`."""

    job_id: str
    index: int
    rank: float
    planned: bool = True
    fingerprint: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)
    state: JobState = field(default_factory=Waiting)
    attempts: int = 0
    """Attempts submitted so far; the next one is `attempts + 1`."""
    failures: int = 0
    """Attempts that count against --max_retries."""
    oom_failures: int = 0
    oom_room_mb: int | None = None
    """GPU memory that could be had where the last out-of-memory happened."""
    elapsed_s: float = 0.0
    """Wall time of all ended attempts."""

    def move(self, state: JobState) -> None:
        """Change state; IllegalTransitionError when the states may not follow each other."""
        if not isinstance(state, _LEGAL[type(self.state)]):
            raise IllegalTransitionError(f"job {self.job_id}: {type(self.state).__name__} -> {type(state).__name__}")
        self.state = state
