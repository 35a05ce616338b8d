"""What can happen in a run, as versioned data. The journal is a list of these; the state of a run is their fold.

Codec: one JSON object a line, `{"e": <kind>, "t": <unix seconds>, ...fields}`. Fields that hold their default are
left out. Unknown fields of a known kind are ignored (a newer minor version added them); an unknown kind is an error,
because leaving out an event could repeat or lose an experiment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from math import isfinite
from typing import Any, ClassVar, Literal

from sf_runner.basics.errors import StorageError
from sf_runner.basics.json_line import json_line, quoted
from sf_runner.state.jobs import FailureCause, JournalLine, StopReason, Verdict

FORMAT_VERSION = 1
"""Raised when an older runner could no longer read what a newer one writes."""


class JournalError(StorageError):
    """A journal, or a line of it, that this version cannot read."""


class NewerEventError(JournalError):
    """A line that only a newer version can read."""


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
    queues: bool | None = None
    """Whether the backend has a queue of its own, in which attempts wait after they were submitted."""
    local: bool | None = None
    """Whether attempts are processes of the runner's machine, which end or go on with it."""
    clocks: Sequence[float] = ()
    """Readings at `t` of the clocks that nobody sets: the steady one and the one since boot, see `basics/clock.py`."""
    records: bool | None = None
    """Whether attempts write down themselves how they fare, also while no runner is there."""
    thresholds: Sequence[tuple[str, float]] = ()
    """The description's, see `describe/thresholds.py`."""

    def __post_init__(self) -> None:
        for name, value in backend_facts(vars(self)).items():
            object.__setattr__(self, name, value)


def backend_facts(body: Mapping[str, Any]) -> dict[str, bool]:
    """What a `RunOpened` says of its backend. Older journals leave some of it out, and have built-in backends only."""
    name = body.get("backend")
    built_in = {"queues": name != "processes", "local": name == "processes", "records": name == "slurm"}
    return {fact: value if body.get(fact) is None else body[fact] for fact, value in built_in.items()}


@dataclass(frozen=True, kw_only=True)
class ClockSet(Event):
    """The wall clock of the runner's machine was set, or the machine slept. `t` is by the new time, earlier events by
    the old one. By how much follows from `clocks` and those of the last event that has them."""

    kind: ClassVar[str] = "clock_set"
    clocks: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class JobsPlanned(Event):
    """Jobs new to the run. Each entry: `id`, `index`, `rank`, `fp` (fingerprint) and what people want to see of it."""

    kind: ClassVar[str] = "jobs_planned"
    jobs: Sequence[Mapping[str, Any]]
    line: JournalLine | None = field(default=None, compare=False)
    """Where it stands; not part of what is written. Parts of the entries that are seldom asked for are then read there
    again instead of kept."""


@dataclass(frozen=True, kw_only=True)
class JobsChanged(Event):
    """Known jobs whose command, order or presence in the description differs from before.

    Entries: `id` and any of `planned`, `rank`, `index`; one with `fp` describes the job completely.
    """

    kind: ClassVar[str] = "jobs_changed"
    jobs: Sequence[Mapping[str, Any]]
    line: JournalLine | None = field(default=None, compare=False)
    """As of `JobsPlanned`."""


@dataclass(frozen=True, kw_only=True)
class AttemptSubmitted(Event):
    """Written before the backend is asked, so that no process can exist that the journal does not know of."""

    kind: ClassVar[str] = "submitted"
    job: str
    attempt: int
    placement: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class AttemptStarted(Event):
    """`placement`: where it runs, when that was not known as it was submitted."""

    kind: ClassVar[str] = "started"
    job: str
    attempt: int
    handle: Mapping[str, Any]
    placement: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class StopRequested(Event):
    """The runner is about to end an attempt."""

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
class AttemptWithdrawn(Event):
    """A submitted attempt got to no place where it could run: its job waits again as if it had not been submitted."""

    kind: ClassVar[str] = "withdrawn"
    job: str
    attempt: int


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
class PaceChanged(Event):
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
    ClockSet,
    JobsPlanned,
    JobsChanged,
    AttemptSubmitted,
    AttemptStarted,
    StopRequested,
    AttemptEnded,
    AttemptWithdrawn,
    JobCancelled,
    JobRequeued,
    PaceChanged,
    RunDraining,
    RunClosed,
    Note,
)
_parse = json.JSONDecoder().raw_decode
_BY_KIND = {cls.kind: cls for cls in EVENT_TYPES}
_FIELDS = {cls: {f.name for f in fields(cls)} - {"line"} for cls in EVENT_TYPES}
_DEFAULTS = {cls: {f.name: f.default for f in fields(cls)} for cls in EVENT_TYPES}
_REQUIRED = {cls: {name for name, value in _DEFAULTS[cls].items() if value is MISSING} for cls in EVENT_TYPES}
_CAUSE_FIELDS = tuple(f.name for f in fields(FailureCause))


_NOT_WRITTEN = ("t", "line")
"""Written first, and known from where it was read."""


def encode(event: Event) -> str:
    """One line of JSON, ASCII, without its newline."""
    defaults = _DEFAULTS[type(event)]
    line = f'{{"e":"{event.kind}","t":{_text(round(event.t, 3))}'
    for name, value in vars(event).items():
        if value != defaults[name] and name not in _NOT_WRITTEN:
            line += f',"{name}":{_text(value)}'
    return line + "}"


def _text(value: Any) -> str:
    """The JSON of a field. The commonest types apart: with three events for each job this is worth its lines."""
    if type(value) is str:
        return quoted(value)
    if type(value) is int or (type(value) is float and isfinite(value)):
        return repr(value)
    return json_line(asdict(value) if isinstance(value, FailureCause) else value)


def decode(line: str) -> Event:
    """The event on one line; JournalError when it is not one that this version knows."""
    try:
        body, end = _parse(line)
        kind = body.pop("e")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise JournalError(f"not a journal line: {line[:80]!r}") from None
    if end != len(line) or not line.isascii():
        raise JournalError(f"not a journal line: {line[:80]!r}")
    cls = _BY_KIND.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise NewerEventError(f"unknown event {kind!r}; it was written by a newer sf_runner: upgrade to read it")
    if not body.keys() <= _FIELDS[cls]:
        body = {name: value for name, value in body.items() if name in _FIELDS[cls]}
    if not body.keys() >= _REQUIRED[cls]:
        missing = ", ".join(sorted(_REQUIRED[cls] - body.keys()))
        raise JournalError(f"incomplete {kind!r} event: {missing} is missing")
    if "cause" in body:
        body["cause"] = _decode_cause(body["cause"])
    if cls is RunOpened:
        body |= backend_facts(body)
    # Past __init__, which sets every field of a frozen class by a call of its own: half of the time of a replay.
    # Fields that are not there have the default, which is an attribute of the class.
    event = object.__new__(cls)
    object.__setattr__(event, "__dict__", body)
    return event


def _decode_cause(body: Any) -> FailureCause:
    try:
        return FailureCause(**{name: body[name] for name in _CAUSE_FIELDS})
    except (KeyError, TypeError) as exc:
        raise JournalError(f"incomplete cause of a failure: {exc}") from exc
