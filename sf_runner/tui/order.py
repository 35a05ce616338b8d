"""Which jobs are listed, in which order. Computed only when the state or the question changed."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Protocol

from sf_runner.progress import Progress
from sf_runner.state import events as ev
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import ACTIVE, Cancelled, Failed, JobRecord, Running, Stopping, Succeeded, Waiting
from sf_runner.tui.ui_state import Sort, UiState, group_of

_GROUPS = ("running", "failed", "waiting", "succeeded", "cancelled")


class Samples(Protocol):
    """What is known of the jobs' own progress."""

    version: int
    """Grows whenever a sample changes."""

    def progress(self, job: str) -> Progress | None: ...


_Key = tuple[float, float, int, str]


def changed_jobs(events: Sequence[ev.Event]) -> set[str] | None:
    """Jobs that events speak of; None: they may bear on any job."""
    if any(isinstance(event, _OF_MANY_JOBS) for event in events):
        return None
    return {job for event in events if (job := getattr(event, "job", ""))}


_OF_MANY_JOBS = (ev.JournalCreated, ev.RunOpened, ev.ClockSet, ev.JobsPlanned, ev.JobsChanged)


class JobOrder:
    """The list of jobs as the person wants to see it. A change of a job costs no more in a list of 100,000."""

    def __init__(self) -> None:
        self._key: object = None
        self._listed: list[JobRecord] = []
        self._haystacks: dict[str, str] = {}
        self._groups: _Groups | None = None
        self._groups_of: object = None
        self._changed: set[str] | None = None
        self._version = self._told = -1

    def took(self, events: Sequence[ev.Event], version: int) -> None:
        """What happened between the version before and this one of the state."""
        changed = changed_jobs(events)
        if changed is None or self._changed is None or self._told != version - 1:
            self._changed = None
        else:
            self._changed |= changed
        self._told = version

    def listed(self, state: RunState, version: int, ui: UiState, samples: Samples, metric: str) -> list[JobRecord]:
        """Planned jobs that pass the filter, sorted. `version` changes with the state."""
        live = samples.version if ui.sort in ("progress", "fps", "metric") else 0
        key = (version, id(state), live, ui.sort, ui.reverse, ui.show, ui.filter, metric if ui.sort == "metric" else "")
        if key != self._key:
            self._key = key
            self._listed = self._make(state, version, ui, samples, metric)
        return self._listed

    def row_of(self, job: str, near: int) -> int | None:
        """The position of a job in the list; `near`: where it was."""
        listed = self._listed
        for row in (near, near + 1, near - 1):
            if 0 <= row < len(listed) and listed[row].job_id == job:
                return row
        return next((row for row, record in enumerate(listed) if record.job_id == job), None)

    def _make(self, state: RunState, version: int, ui: UiState, samples: Samples, metric: str) -> list[JobRecord]:
        groups = self._grouped(state, version, ui)
        listed: list[JobRecord] = []
        for name in _GROUPS:
            if not ui.show or name == ui.show:
                listed += groups.records[name]
        if ui.sort != "state":
            listed.sort(key=_sort_key(ui.sort, samples, metric))
        if ui.reverse:
            listed.reverse()
        return listed

    def _grouped(self, state: RunState, version: int, ui: UiState) -> _Groups:
        of = (id(state), ui.filter)
        groups = self._groups
        if version != self._version or groups is None or of != self._groups_of:
            known = self._changed if self._told == version else None
            if groups is None or known is None or of != self._groups_of:
                groups = self._groups = _Groups(state.jobs.values(), self._matcher(ui.filter))
            else:
                for job in known:
                    groups.update(state.jobs[job])
            self._groups_of, self._version, self._changed, self._told = of, version, set(), version
        return groups

    def _matcher(self, text: str) -> Callable[[JobRecord], bool] | None:
        """Every word must be found in the name or in a `parameter=value`; a word after `!` must not."""
        words = text.lower().split()
        if not words:
            return None
        yes = [word for word in words if not word.startswith("!")]
        no = [word[1:] for word in words if word.startswith("!") and len(word) > 1]

        def matches(record: JobRecord) -> bool:
            text = self._haystack(record)
            return all(word in text for word in yes) and not any(word in text for word in no)

        return matches

    def _haystack(self, record: JobRecord) -> str:
        text = self._haystacks.get(record.job_id)
        if text is None:
            params: Mapping[str, object] = record.params
            text = " ".join([record.job_id, *(f"{name}={value}" for name, value in params.items())]).lower()
            self._haystacks[record.job_id] = text
        return text


class _Groups:
    """Jobs by the part of the list that they belong to, what needs attention first: running, failed (the latest first),
    waiting (retries, then in order of start), ended (the latest first)."""

    def __init__(self, records: Iterable[JobRecord], wanted: Callable[[JobRecord], bool] | None) -> None:
        self._wanted = wanted
        self._places: dict[str, tuple[str, _Key]] = {}
        self._keys: dict[str, list[_Key]] = {}
        self.records: dict[str, list[JobRecord]] = {}
        found: dict[str, list[tuple[_Key, JobRecord]]] = {name: [] for name in _GROUPS}
        for record in records:
            place = self._place(record)
            if place is not None:
                self._places[record.job_id] = place
                found[place[0]].append((place[1], record))
        for name, pairs in found.items():
            pairs.sort(key=itemgetter(0))
            self._keys[name] = [key for key, _ in pairs]
            self.records[name] = [record for _, record in pairs]

    def update(self, record: JobRecord) -> None:
        """Put a job that has changed where it belongs now."""
        old, new = self._places.get(record.job_id), self._place(record)
        if old == new:
            return
        if old is not None:
            name, key = old
            at = bisect_left(self._keys[name], key)
            del self._keys[name][at], self.records[name][at], self._places[record.job_id]
        if new is not None:
            name, key = self._places[record.job_id] = new
            at = bisect_left(self._keys[name], key)
            self._keys[name].insert(at, key)
            self.records[name].insert(at, record)

    def _place(self, record: JobRecord) -> tuple[str, _Key] | None:
        """(part of the list, what sorts it there); None: it is not listed."""
        if not record.planned or (self._wanted is not None and not self._wanted(record)):
            return None
        state, name = record.state, group_of(record)
        if name == "waiting":
            return name, (float(not record.attempts), record.rank, record.index, record.job_id)
        if name == "running":
            assert isinstance(state, ACTIVE)
            running = state.running if isinstance(state, Stopping) else state
            return name, (running.submitted_at, record.rank, record.index, record.job_id)
        assert isinstance(state, Succeeded | Failed | Cancelled)
        return name, (-state.ended_at, 0.0, record.index, record.job_id)


def _sort_key(sort: Sort, samples: Samples, metric: str) -> Callable[[JobRecord], tuple[float, int]]:
    """Largest first, what has no value last, then by number."""

    def key(record: JobRecord) -> tuple[float, int]:
        value = _value(sort, record, samples, metric)
        return (float("inf") if value is None else -value, record.index)

    if sort == "number":
        return lambda record: (0.0, record.index)
    return key


def _value(sort: Sort, record: JobRecord, samples: Samples, metric: str) -> float | None:
    if sort == "time":
        return _time(record)
    progress = samples.progress(record.job_id)
    if progress is None:
        return 1.0 if sort == "progress" and isinstance(record.state, Succeeded) else None
    if sort == "progress":
        return 1.0 if isinstance(record.state, Succeeded) else progress.fraction
    if sort == "fps":
        return progress.fps
    return progress.metrics.get(metric)


def _time(record: JobRecord) -> float | None:
    """What orders jobs by how long they take: running ones, oldest first, before ended ones, longest first."""
    state = record.state
    if isinstance(state, Stopping):
        state = state.running
    if isinstance(state, Running):
        return 1e15 - state.started_at
    if isinstance(state, Succeeded | Failed):
        return state.duration_s
    return 0.0 if not isinstance(state, Waiting) else None
