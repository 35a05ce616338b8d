"""The state of a run as columns of plain values, and back: what is kept of a large run so that its journal need not be
read again. Pure.

A column that says the same for all jobs is one value, one with few different values a table and indices into it. The
details of jobs stay in the journal; only where they stand there is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import repeat
from typing import Any

from sf_runner.basics.clock import Reading
from sf_runner.state import events as ev
from sf_runner.state.clock_shift import KnownClocks
from sf_runner.state.durations import Durations
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import (
    Active,
    Cancelled,
    Details,
    DetailsOnDisk,
    Failed,
    FailureCause,
    JobRecord,
    JobState,
    JournalLine,
    Running,
    Stopping,
    Submitted,
    Succeeded,
    Waiting,
)

Columns = Mapping[str, Any]
_CAUSES = {"cause", "last_cause"}
_PLAIN = (
    "run_id", "run_name", "runners", "guardians", "first_opened_at", "paused", "max_parallel", "max_retries",
    "failed_this_session", "succeeded_this_session", "start_failures", "start_failed_at", "last_event_at",
)  # fmt: skip
_OF_JOBS = (
    "index", "rank", "planned", "fingerprint", "config", "shape", "timeout_s", "attempts", "failures",
    "start_failures", "losses", "oom_failures", "oom_room_mb", "elapsed_s",
)  # fmt: skip
_STATES: Mapping[str, tuple[type[JobState], tuple[str, ...]]] = {
    "w": (Waiting, ("not_before", "delay_s", "last_cause")),
    "s": (Succeeded, ("attempt", "ended_at", "duration_s")),
    "f": (Failed, ("attempt", "ended_at", "duration_s", "cause")),
    "c": (Cancelled, ("attempt", "ended_at")),
}
"""By the letters that say in which state each job is: what is said of jobs in it. Active ones (`a`) are few, and
described one by one."""


def columns_of(state: RunState) -> dict[str, Any]:
    """Everything of the state, for `state_of`."""
    jobs = list(state.jobs.values())
    columns: dict[str, Any] = {name: getattr(state, name) for name in _PLAIN}
    columns |= {
        "counts": state.counts,
        "opened": _event_text(state.opened),
        "closed": _event_text(state.closed),
        "draining": _event_text(state.draining),
        "notes": [ev.encode(note) for note in state.notes],
        "clocks": _clocks_json(state.clocks),
        "durations": [state.durations.count, state.durations.mean_s, state.durations.m2],
        "failing_this_session": sorted(state.failing_this_session),
        "active": list(state.active),
        "ids": list(state.jobs),
        **_detail_columns(jobs),
        **_state_columns(jobs),
    }
    columns |= {f"job_{name}": _pack([getattr(job, name) for job in jobs]) for name in _OF_JOBS}
    return columns


def state_of(columns: Columns, entries: Callable[[int], Sequence[Mapping[str, Any]]]) -> RunState:
    """The state again. `entries`: reads those of the line of the journal at an offset.

    Raises ValueError, LookupError, TypeError or AttributeError for columns that `columns_of` did not make.
    """
    state = RunState(
        **{name: columns[name] for name in _PLAIN},
        counts=columns["counts"],
        opened=_event(columns["opened"], ev.RunOpened),
        closed=_event(columns["closed"], ev.RunClosed),
        draining=_event(columns["draining"], ev.RunDraining),
        notes=[note for note in map(ev.decode, columns["notes"]) if isinstance(note, ev.Note)],
        durations=Durations(**dict(zip(("count", "mean_s", "m2"), columns["durations"], strict=True))),
        clocks=_clocks(columns["clocks"]),
        failing_this_session=set(columns["failing_this_session"]),
    )
    state.guardians = [tuple(handles) for handles in state.guardians]
    ids = columns["ids"]
    fields = [_unpack(columns[f"job_{name}"], len(ids)) for name in _OF_JOBS]
    jobs = state.jobs
    for job_id, details, job_state, values in zip(
        ids, _details_of(columns, len(ids), entries), _states_of(columns), zip(*fields, strict=True), strict=True
    ):
        jobs[job_id] = _record(job_id, details, job_state, *values)
    state.active.update((job_id, jobs[job_id]) for job_id in columns["active"])
    state.failed.update((job_id, record) for job_id, record in jobs.items() if isinstance(record.state, Failed))
    state.enqueue_all()
    return state


def _record(
    job_id: str, details: Details | DetailsOnDisk, state: JobState, index: int, rank: float, planned: bool,
    fingerprint: str, config: str, shape: str, timeout_s: float | None, attempts: int, failures: int,
    start_failures: int, losses: int, oom_failures: int, oom_room_mb: int | None, elapsed_s: float,
) -> JobRecord:  # fmt: skip
    return JobRecord(
        job_id=job_id, index=index, rank=rank, planned=planned, fingerprint=fingerprint, config=config,
        details=details, shape=shape, timeout_s=timeout_s, state=state, attempts=attempts, failures=failures,
        start_failures=start_failures, losses=losses, oom_failures=oom_failures, oom_room_mb=oom_room_mb,
        elapsed_s=elapsed_s,
    )  # fmt: skip


def _clocks_json(clocks: KnownClocks | None) -> dict[str, Any] | None:
    return None if clocks is None else {"boot": clocks.boot, "reading": asdict(clocks.reading)}


def _clocks(body: Mapping[str, Any] | None) -> KnownClocks | None:
    return None if body is None else KnownClocks(boot=body["boot"], reading=Reading(**body["reading"]))


def _event_text(event: ev.Event | None) -> str | None:
    return None if event is None else ev.encode(event)


def _event(text: str | None, kind: type[ev.Event]) -> Any:
    event = None if text is None else ev.decode(text)
    if event is not None and not isinstance(event, kind):
        raise ValueError(f"{event.kind} in place of {kind.kind}")
    return event


# ---- columns -----------------------------------------------------------------------------------------------------


def _pack(values: Sequence[Any]) -> dict[str, Any]:
    """Numbers, texts or None, one for each job. (1 and 1.0 are the same number here.)"""
    table = {value: number for number, value in enumerate(dict.fromkeys(values))}
    if len(table) == 1:
        return {"all": values[0]}
    if 4 * len(table) > len(values):
        return {"each": values}
    return {"table": list(table), "of": [table[value] for value in values]}


def _unpack(column: Mapping[str, Any], count: int) -> Iterable[Any]:
    if "all" in column:
        return repeat(column["all"], count)
    if "each" in column:
        return list(column["each"])
    table: Sequence[Any] = column["table"]
    return [table[number] for number in column["of"]]


def _detail_columns(jobs: Sequence[JobRecord]) -> dict[str, Any]:
    """Where details stand in the journal. Of jobs of which that is not known, themselves."""
    offsets = [job.details.line.offset if isinstance(job.details, DetailsOnDisk) else -1 for job in jobs]
    positions = [job.details.position if isinstance(job.details, DetailsOnDisk) else 0 for job in jobs]
    kept = {job.job_id: list(job.details) for job in jobs if isinstance(job.details, Details)}
    return {"lines": _pack(offsets), "positions": positions, "details": kept}


def _details_of(
    columns: Columns, count: int, entries: Callable[[int], Sequence[Mapping[str, Any]]]
) -> Iterable[Details | DetailsOnDisk]:
    lines: dict[int, JournalLine] = {}
    kept = columns["details"]
    for job_id, offset, position in zip(
        columns["ids"], _unpack(columns["lines"], count), columns["positions"], strict=True
    ):
        if offset < 0:
            yield Details(*kept[job_id])
            continue
        line = lines.get(offset)
        if line is None:
            line = lines[offset] = JournalLine(entries, offset)
        yield DetailsOnDisk(line, position)


# ---- states ------------------------------------------------------------------------------------------------------


def _state_columns(jobs: Sequence[JobRecord]) -> dict[str, Any]:
    """A letter for each job, and for each letter columns with what is said of the jobs in that state, in order."""
    letter_of = {cls: letter for letter, (cls, _) in _STATES.items()}
    letters = [letter_of.get(type(job.state), "a") for job in jobs]
    states: dict[str, list[Any]] = {letter: [] for letter in (*_STATES, "a")}
    for letter, job in zip(letters, jobs, strict=True):
        states[letter].append(job.state)
    causes: dict[FailureCause | None, int] = {None: -1}
    columns: dict[str, Any] = {
        "states": "".join(letters),
        "active_state": [_active_json(state) for state in states["a"]],
    }
    for letter, (_, names) in _STATES.items():
        for name in names:
            values = [getattr(state, name) for state in states[letter]]
            if name in _CAUSES:
                values = [causes.setdefault(cause, len(causes) - 1) for cause in values]
            elif name == "ended_at":
                values = [round(at, 3) for at in values]
            columns[f"{letter}_{name}"] = _pack(values)
    columns["causes"] = [[cause.kind, cause.summary, cause.fingerprint] for cause in causes if cause is not None]
    return columns


def _states_of(columns: Columns) -> list[JobState]:
    letters = columns["states"]
    found = [FailureCause(kind=kind, summary=text, fingerprint=mark) for kind, text, mark in columns["causes"]]
    causes = {-1: None, **dict(enumerate(found))}
    states: dict[str, Iterator[JobState]] = {"a": map(_active_state, columns["active_state"])}
    for letter, (cls, names) in _STATES.items():
        values = {name: _unpack(columns[f"{letter}_{name}"], letters.count(letter)) for name in names}
        for name in _CAUSES & values.keys():
            values[name] = map(causes.__getitem__, values[name])
        states[letter] = _made(cls, names, zip(*values.values(), strict=True))
    return [next(states[letter]) for letter in letters]


def _made(cls: type[JobState], names: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> Iterator[JobState]:
    """Alike ones in a row, as of jobs that have not been started, are one object."""
    before: tuple[Any, ...] = ()
    for row in rows:
        if row != before:
            before, state = row, cls(**dict(zip(names, row, strict=True)))
        yield state


def _active_json(state: Active) -> dict[str, Any]:
    if isinstance(state, Stopping):
        return {"reason": state.reason, "since": round(state.since, 3), "running": _active_json(state.running)}
    body = asdict(state)
    for name in ("submitted_at", "started_at"):
        if name in body:
            body[name] = round(body[name], 3)
    return body


def _active_state(body: Mapping[str, Any]) -> Active:
    if "running" in body:
        running = _active_state(body["running"])
        assert not isinstance(running, Stopping)
        return Stopping(running=running, reason=body["reason"], since=body["since"])
    return Running(**body) if "handle" in body else Submitted(**body)
