"""What can happen in a run, as versioned data. The journal is a list of these; the state of a run is their fold.

Codec: one JSON object a line, `{"e": <kind>, "t": <unix seconds>, ...fields}`. Fields that hold their default are
left out. Unknown fields of a known kind are ignored (a newer minor version added them); an unknown kind is an error,
because leaving out an event could repeat or lose an experiment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, ClassVar, Literal

from sf_runner.errors import StorageError
from sf_runner.job_state import FailureCause, StopReason, Verdict

FORMAT_VERSION = 1
"""Raised when an older runner could no longer read what a newer one writes."""


class JournalError(StorageError):
    """A journal, or a line of it, that this version cannot read."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """`t`: unix seconds at which it happened."""

    kind: ClassVar[str] = ""
    t: float


@dataclass(frozen=True, kw_only=True)
class JournalCreated(Event):
    """Always the first line. `run_id` marks every process of the run (environment tag)."""

    kind: ClassVar[str] = "journal"
    version: int
    run_id: str
    run_name: str


@dataclass(frozen=True, kw_only=True)
class RunOpened(Event):
    """A runner started, or started again, on this run. `pid`, `up` (seconds since boot) and `boot_id` identify it;
    `guardians` are handles of the processes that would inherit its jobs."""

    kind: ClassVar[str] = "run_opened"
    pid: int
    host: str
    backend: str
    up: float = 0.0
    boot_id: str = ""
    command: Sequence[str] = ()
    max_parallel: int = 0
    max_retries: int = 0
    guardians: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, kw_only=True)
class JobsPlanned(Event):
    """Jobs new to the run. Each entry: `id`, `index`, `rank`, `fp` (fingerprint) and what people want to see of it."""

    kind: ClassVar[str] = "jobs_planned"
    jobs: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class JobsChanged(Event):
    """Known jobs whose command, order or presence in the description differs from before.

    Entries: `id` and any of `rank`, `fp`, `planned`, and the fields shown to people.
    """

    kind: ClassVar[str] = "jobs_changed"
    jobs: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class AttemptSubmitted(Event):
    """Written before the backend is asked, so that no process can exist that the journal does not know of."""

    kind: ClassVar[str] = "submitted"
    job: str
    attempt: int
    placement: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class AttemptStarted(Event):
    kind: ClassVar[str] = "started"
    job: str
    attempt: int
    handle: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class StopRequested(Event):
    kind: ClassVar[str] = "stop"
    job: str
    attempt: int
    reason: StopReason


@dataclass(frozen=True, kw_only=True)
class AttemptEnded(Event):
    """`code` is the exit status, `signal` the signal's number; both None when nobody saw the end."""

    kind: ClassVar[str] = "ended"
    job: str
    attempt: int
    verdict: Verdict
    code: int | None = None
    signal: int | None = None
    duration_s: float = 0.0
    not_before: float = 0.0
    cause: FailureCause | None = None
    leftovers: int = 0
    max_rss_mb: float | None = None
    cpu_s: float | None = None
    gpu_peak_mb: float | None = None


@dataclass(frozen=True, kw_only=True)
class JobCancelled(Event):
    """A waiting job that will not be started."""

    kind: ClassVar[str] = "cancelled"
    job: str


@dataclass(frozen=True, kw_only=True)
class JobRequeued(Event):
    """A failed or cancelled job is to be tried again because somebody asked."""

    kind: ClassVar[str] = "requeued"
    job: str


@dataclass(frozen=True, kw_only=True)
class LaunchingChanged(Event):
    """Launching paused or resumed, or the number of jobs side by side changed."""

    kind: ClassVar[str] = "launching"
    paused: bool | None = None
    max_parallel: int | None = None


DrainReason = Literal["interrupted", "terminated", "killed", "max_failures", "detached"]


@dataclass(frozen=True, kw_only=True)
class RunDraining(Event):
    """No job is started any more."""

    kind: ClassVar[str] = "draining"
    reason: DrainReason


@dataclass(frozen=True, kw_only=True)
class RunClosed(Event):
    """The runner ended in good order."""

    kind: ClassVar[str] = "run_closed"
    exit_code: int


@dataclass(frozen=True, kw_only=True)
class Note(Event):
    """Something a person should read, once."""

    kind: ClassVar[str] = "note"
    text: str
    job: str = ""
    level: Literal["info", "warning", "error"] = "warning"


EVENT_TYPES: tuple[type[Event], ...] = (
    JournalCreated,
    RunOpened,
    JobsPlanned,
    JobsChanged,
    AttemptSubmitted,
    AttemptStarted,
    StopRequested,
    AttemptEnded,
    JobCancelled,
    JobRequeued,
    LaunchingChanged,
    RunDraining,
    RunClosed,
    Note,
)
_dumps = json.JSONEncoder(separators=(",", ":")).encode
_BY_KIND = {cls.kind: cls for cls in EVENT_TYPES}
_FIELDS = {cls: frozenset(f.name for f in fields(cls)) for cls in EVENT_TYPES}
_DEFAULTS = {
    cls: {f.name: (f.default if f.default is not MISSING else MISSING) for f in fields(cls)} for cls in EVENT_TYPES
}


def encode(event: Event) -> str:
    """One line of JSON without its newline."""
    defaults = _DEFAULTS[type(event)]
    body: dict[str, Any] = {"e": event.kind}
    for name, value in vars(event).items():
        if name == "t":
            body[name] = round(value, 3)
        elif value is not defaults[name] and value != defaults[name]:
            body[name] = asdict(value) if isinstance(value, FailureCause) else value
    return _dumps(body)


def decode(line: str | bytes) -> Event:
    """The event on one line; JournalError when it is not one that this version knows."""
    try:
        body = json.loads(line)
        cls = _BY_KIND[body.pop("e")]
    except KeyError as exc:
        raise JournalError(f"unknown event {exc}; it was written by a newer sf_runner: upgrade to read it") from exc
    except (ValueError, AttributeError, TypeError) as exc:
        raise JournalError(f"not a journal line: {line[:80]!r}") from exc
    if "cause" in body:
        body["cause"] = FailureCause(**body["cause"])
    known = _FIELDS[cls]
    if not known.issuperset(body):
        body = {key: value for key, value in body.items() if key in known}
    try:
        return cls(**body)
    except TypeError as exc:
        raise JournalError(f"incomplete {cls.kind!r} event: {exc}") from exc
