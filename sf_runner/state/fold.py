"""The state of a run: a pure fold of its events. No clock, no files, no processes.

`RunState.apply` costs O(log n) per event, so a run of 10,000 jobs replays in well under half a second.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

from sf_runner.basics.clock import Jump
from sf_runner.state import events as ev
from sf_runner.state.clock_shift import KnownClocks, next_clocks, shifted
from sf_runner.state.durations import Durations
from sf_runner.state.jobs import (
    ACTIVE,
    Active,
    Cancelled,
    Failed,
    JobRecord,
    JobState,
    Running,
    Stopping,
    Submitted,
    Succeeded,
    Waiting,
)

_NOTES_KEPT = 200

_Entry = tuple[float, int, str, int]
"""Rank, index, job, and its attempts at the time: an entry left over from before a change is recognised by them."""


@dataclass(kw_only=True)
class RunState:
    """Fold of a run's events. Read it freely; change it only through `apply`."""

    run_id: str = ""
    run_name: str = ""
    jobs: dict[str, JobRecord] = field(default_factory=dict)
    active: dict[str, JobRecord] = field(default_factory=dict)
    """Jobs that hold a slot, in the order in which they were submitted."""
    failed: dict[str, JobRecord] = field(default_factory=dict)
    """Jobs that have failed, planned or not."""
    counts: dict[str, int] = field(default_factory=dict)
    """Planned jobs by state name, e.g. {"Waiting": 3}."""
    opened: ev.RunOpened | None = None
    runners: list[Mapping[str, Any]] = field(default_factory=list)
    """Handles of all runners so far: an earlier one may still be the parent of jobs."""
    guardians: list[tuple[Mapping[str, Any], ...]] = field(default_factory=list)
    """Handles of the guardians of each runner, which inherit its jobs if it is killed."""
    first_opened_at: float = 0.0
    closed: ev.RunClosed | None = None
    draining: ev.RunDraining | None = None
    paused: bool = False
    max_parallel: int = 0
    max_retries: int = 0
    failed_this_session: int = 0
    succeeded_this_session: int = 0
    failing_this_session: set[str] = field(default_factory=set)
    """Jobs with an attempt that failed by its own fault, whether or not it is tried again."""
    start_failures: int = 0
    """Attempts of any job in a row that could not be started because of the machine."""
    start_failed_at: float = 0.0
    durations: Durations = field(default_factory=Durations)
    notes: list[ev.Note] = field(default_factory=list)
    last_event_at: float = 0.0
    clocks: KnownClocks | None = None
    _ready: dict[str, list[_Entry]] = field(default_factory=dict)
    _delayed: list[tuple[float, str]] = field(default_factory=list)

    # ---- reading -------------------------------------------------------------------------------------------

    def count(self, *names: str) -> int:
        return sum(self.counts.get(name, 0) for name in names)

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def finished(self) -> bool:
        """No planned job is waiting or holds a slot."""
        return not self.active and self.counts.get("Waiting", 0) == 0

    @property
    def num_queued(self) -> int:
        """Jobs that wait in the queue of their backend."""
        return self.count("Submitted") if self.opened is not None and bool(self.opened.queues) else 0

    def ready(self) -> list[JobRecord]:
        """Of each queue the best-ranked job that may start now, best rank first."""
        heads = [head for head in map(self._peek, tuple(self._ready)) if head is not None]
        if len(heads) > 1:
            heads.sort()
        return [self.jobs[head[2]] for head in heads]

    def next_delayed_at(self) -> float | None:
        """When the next job that waits for its retry may start; None when none does."""
        while self._delayed:
            at, job_id = self._delayed[0]
            state = self.jobs[job_id].state
            if isinstance(state, Waiting) and state.not_before == at and self.jobs[job_id].planned:
                return at
            heapq.heappop(self._delayed)
        return None

    def failures(self) -> list[JobRecord]:
        """Planned jobs that have failed, in the order of the description."""
        return sorted((r for r in self.failed.values() if r.planned), key=lambda r: r.index)

    def branch(self) -> RunState:
        """A copy that can be changed without this one, as far as active jobs go; the others are shared."""
        jobs, active = dict(self.jobs), {job: copy(record) for job, record in self.active.items()}
        jobs.update(active)
        return replace(
            self,
            jobs=jobs,
            active=active,
            failed=dict(self.failed),
            counts=dict(self.counts),
            failing_this_session=set(self.failing_this_session),
            durations=replace(self.durations),
            notes=list(self.notes),
            _ready={queue: list(heap) for queue, heap in self._ready.items()},
            _delayed=list(self._delayed),
        )

    # ---- changing ------------------------------------------------------------------------------------------

    def release_delayed(self, now: float) -> None:
        """Let jobs whose waiting time is over become ready. Idempotent; derived data only."""
        while (at := self.next_delayed_at()) is not None and at <= now:
            _, job_id = heapq.heappop(self._delayed)
            self._push_ready(self.jobs[job_id])

    def apply(self, event: ev.Event) -> None:
        """Fold one event in. AssertionError or KeyError (a bug of ours) when it contradicts the state."""
        self.last_event_at = event.t
        _HANDLERS[type(event)](self, event)

    def enqueue_all(self) -> None:
        """Make the queues anew, which are derived from the jobs."""
        self._ready.clear()
        self._delayed.clear()
        for record in self.jobs.values():
            if record.planned and isinstance(record.state, Waiting):
                self._enqueue(record, record.state)

    def apply_all(self, events: Iterable[ev.Event]) -> None:
        for event in events:
            self.apply(event)

    def _peek(self, queue: str) -> _Entry | None:
        heap = self._ready[queue]
        while heap:
            rank, _, job_id, attempts = heap[0]
            record = self.jobs[job_id]
            fresh = record.attempts == attempts and record.rank == rank and record.queue == queue
            if fresh and record.planned and isinstance(record.state, Waiting):
                return heap[0]
            heapq.heappop(heap)
        del self._ready[queue]
        return None

    def _push_ready(self, record: JobRecord) -> None:
        entry = (record.rank, record.index, record.job_id, record.attempts)
        heapq.heappush(self._ready.setdefault(record.queue, []), entry)

    def _move(self, record: JobRecord, state: JobState) -> None:
        before = type(record.state).__name__
        record.move(state)
        if record.planned:
            self.counts[before] -= 1
            after = type(state).__name__
            self.counts[after] = self.counts.get(after, 0) + 1
        if isinstance(state, ACTIVE):
            self.active[record.job_id] = record
        else:
            self.active.pop(record.job_id, None)
        if isinstance(state, Failed):
            self.failed[record.job_id] = record
        elif before == "Failed":
            self.failed.pop(record.job_id, None)
        if isinstance(state, Waiting) and record.planned:
            self._enqueue(record, state)

    def _enqueue(self, record: JobRecord, state: Waiting) -> None:
        if state.not_before > 0:
            heapq.heappush(self._delayed, (state.not_before, record.job_id))
        else:
            self._push_ready(record)

    def _journal_created(self, event: ev.JournalCreated) -> None:
        self.run_id, self.run_name = event.run_id, event.run_name

    def _run_opened(self, event: ev.RunOpened) -> None:
        self.opened, self.closed, self.draining, self.paused = event, None, None, False
        self.first_opened_at = self.first_opened_at or event.t
        self.runners.append({"pid": event.pid, "up": event.up, "boot": event.boot_id, "host": event.host})
        self.guardians.append(tuple(event.guardians))
        self.max_parallel, self.max_retries = event.max_parallel, event.max_retries
        self._learn_clocks(event)
        self.failed_this_session = self.succeeded_this_session = self.start_failures = 0
        self.failing_this_session.clear()

    def _learn_clocks(self, event: ev.RunOpened | ev.ClockSet) -> None:
        sleeps = self.opened is not None and bool(self.opened.local)
        self.clocks, jump = next_clocks(self.clocks, event, sleeps=sleeps)
        if jump is not None:
            self._shift(jump, event.t)

    def _shift(self, jump: Jump, now: float) -> None:
        self.first_opened_at += jump.set_s
        self.start_failed_at += jump.set_s
        delayed = {job_id: self.jobs[job_id] for _, job_id in self._delayed}
        for record in (*self.active.values(), *delayed.values()):
            record.state = shifted(record.state, jump, now)
        self._delayed = [
            (record.state.not_before, job_id)
            for job_id, record in delayed.items()
            if isinstance(record.state, Waiting) and record.state.not_before > 0
        ]
        heapq.heapify(self._delayed)

    def _jobs_planned(self, event: ev.JobsPlanned) -> None:
        waiting = Waiting()
        for position, entry in enumerate(event.jobs):
            job_id = entry["id"]
            assert job_id not in self.jobs, f"{job_id} is planned twice"
            record = JobRecord(job_id=job_id, index=entry["index"], rank=entry["rank"], state=waiting)
            record.describe(entry, event.line, position)
            self.jobs[job_id] = record
            self._push_ready(record)
        self.counts["Waiting"] = self.counts.get("Waiting", 0) + len(event.jobs)

    def _jobs_changed(self, event: ev.JobsChanged) -> None:
        for position, entry in enumerate(event.jobs):
            record = self.jobs[entry["id"]]
            name = type(record.state).__name__
            planned = entry.get("planned", record.planned)
            if planned != record.planned:
                self.counts[name] = self.counts.get(name, 0) + (1 if planned else -1)
                record.planned = planned
            if "fp" in entry:  # a complete description: what it leaves out no longer applies
                record.describe(entry, event.line, position)
            record.rank = entry.get("rank", record.rank)
            record.index = entry.get("index", record.index)
            if isinstance(record.state, Waiting) and record.planned:
                self._enqueue(record, record.state)

    def _attempt_submitted(self, event: ev.AttemptSubmitted) -> None:
        record = self.jobs[event.job]
        record.attempts = event.attempt
        queued = self.opened is not None and bool(self.opened.queues)
        self._move(
            record,
            Submitted(attempt=event.attempt, submitted_at=event.t, placement=event.placement, queued=queued),
        )

    def _attempt_started(self, event: ev.AttemptStarted) -> None:
        record = self.jobs[event.job]
        state = record.state
        record.start_failures = self.start_failures = 0
        if isinstance(state, Stopping):  # told to stop before it was known to run
            running = _running(state.running, event)
            self._move(record, Stopping(running=running, reason=state.reason, since=state.since))
        elif isinstance(state, Submitted):
            self._move(record, _running(state, event))

    def _stop_requested(self, event: ev.StopRequested) -> None:
        record = self.jobs[event.job]
        state = record.state
        assert isinstance(state, ACTIVE), f"{event.job} holds no slot"
        running = state.running if isinstance(state, Stopping) else state
        self._move(record, Stopping(running=running, reason=event.reason, since=event.t))

    def _attempt_ended(self, event: ev.AttemptEnded) -> None:
        record = self.jobs[event.job]
        record.elapsed_s += event.duration_s
        lost = event.verdict == "requeue" and event.cause is not None and event.cause.kind == "lost"
        record.losses = record.losses + 1 if lost else 0
        if event.verdict == "succeeded":
            self.succeeded_this_session += 1
            self.durations.add(event.duration_s)
        elif event.verdict in ("failed", "retry"):
            self._count_failure(record, event)
        elif event.verdict == "requeue" and event.cause is not None and event.cause.kind == "spawn":
            record.start_failures += 1
            self.start_failures += 1
            self.start_failed_at = event.t
        self._move(record, _after(event))

    def _count_failure(self, record: JobRecord, event: ev.AttemptEnded) -> None:
        record.failures += 1
        self.failed_this_session += event.verdict == "failed"
        self.failing_this_session.add(event.job)
        if event.cause is not None and event.cause.kind == "gpu_oom":
            assert isinstance(record.state, ACTIVE)
            record.oom_failures += 1
            record.oom_room_mb = record.state.placement.get("room_mb")

    def _attempt_withdrawn(self, event: ev.AttemptWithdrawn) -> None:
        record = self.jobs[event.job]
        record.attempts = event.attempt - 1
        self._move(record, Waiting())

    def _job_cancelled(self, event: ev.JobCancelled) -> None:
        self._move(self.jobs[event.job], Cancelled(ended_at=event.t))

    def _job_requeued(self, event: ev.JobRequeued) -> None:
        record = self.jobs[event.job]
        record.failures = record.oom_failures = record.start_failures = record.losses = 0
        self._move(record, Waiting())

    def _pace_changed(self, event: ev.PaceChanged) -> None:
        if event.paused is not None:
            self.paused = event.paused
        if event.max_parallel is not None:
            self.max_parallel = event.max_parallel

    def _run_draining(self, event: ev.RunDraining) -> None:
        self.draining = event

    def _run_closed(self, event: ev.RunClosed) -> None:
        self.closed = event

    def _note(self, event: ev.Note) -> None:
        self.notes.append(event)
        del self.notes[:-_NOTES_KEPT]


def replay(
    events: Iterable[ev.Event], source: object, state: RunState | None = None, *, lines_before: int = 0
) -> RunState:
    """The state after these events of a journal (`state`: after the lines before them).

    Raises JournalError naming `source` and the line when they contradict each other.
    """
    state = RunState() if state is None else state
    for number, event in enumerate(events, lines_before + 1):
        try:
            state.apply(event)
        except (AssertionError, LookupError, TypeError, AttributeError, ValueError) as exc:
            raise ev.JournalError(
                f"{source}: line {number} ({event.kind}) contradicts the lines before it ({exc!r}); restore what was "
                "changed or removed there, or give the run a new name"
            ) from exc
    return state


def _running(state: Active, event: ev.AttemptStarted) -> Running:
    assert not isinstance(state, Stopping)
    return Running(
        attempt=state.attempt,
        submitted_at=state.submitted_at,
        started_at=event.t,
        placement=event.placement or state.placement,
        handle=event.handle,
    )


def _after(event: ev.AttemptEnded) -> JobState:
    if event.verdict == "succeeded":
        return Succeeded(attempt=event.attempt, ended_at=event.t, duration_s=event.duration_s)
    if event.verdict in ("retry", "requeue"):
        delay_s = max(0.0, event.not_before - event.t)
        return Waiting(not_before=event.not_before, delay_s=delay_s, last_cause=event.cause)
    if event.verdict == "cancelled":
        return Cancelled(ended_at=event.t, attempt=event.attempt)
    assert event.cause is not None, "a failed attempt has a cause"
    return Failed(attempt=event.attempt, ended_at=event.t, duration_s=event.duration_s, cause=event.cause)


_HANDLERS: Mapping[type[ev.Event], Any] = {
    ev.JournalCreated: RunState._journal_created,
    ev.RunOpened: RunState._run_opened,
    ev.ClockSet: RunState._learn_clocks,
    ev.JobsPlanned: RunState._jobs_planned,
    ev.JobsChanged: RunState._jobs_changed,
    ev.AttemptSubmitted: RunState._attempt_submitted,
    ev.AttemptStarted: RunState._attempt_started,
    ev.StopRequested: RunState._stop_requested,
    ev.AttemptEnded: RunState._attempt_ended,
    ev.AttemptWithdrawn: RunState._attempt_withdrawn,
    ev.JobCancelled: RunState._job_cancelled,
    ev.JobRequeued: RunState._job_requeued,
    ev.PaceChanged: RunState._pace_changed,
    ev.RunDraining: RunState._run_draining,
    ev.RunClosed: RunState._run_closed,
    ev.Note: RunState._note,
}
