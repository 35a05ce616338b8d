"""Which jobs are listed, in which order. Computed only when the state or the question changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from sf_runner.progress import Progress
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import Cancelled, Failed, JobRecord, Running, Stopping, Succeeded, Waiting, is_queued
from sf_runner.tui.ui_state import Sort, UiState, group_of

_GROUPS = ("running", "failed", "waiting", "succeeded", "cancelled")


class Samples(Protocol):
    """What is known of the jobs' own progress."""

    version: int
    """Grows whenever a sample changes."""

    def progress(self, job: str) -> Progress | None: ...


class JobOrder:
    """The list of jobs as the person wants to see it."""

    def __init__(self) -> None:
        self._key: object = None
        self._listed: list[JobRecord] = []
        self._haystacks: dict[str, str] = {}

    def listed(self, state: RunState, version: int, ui: UiState, samples: Samples, metric: str) -> list[JobRecord]:
        """Planned jobs that pass the filter, sorted. `version` changes with the state."""
        live = samples.version if ui.sort in ("progress", "fps", "metric") else 0
        key = (version, live, ui.sort, ui.reverse, ui.show, ui.filter, metric if ui.sort == "metric" else "")
        if key != self._key:
            self._key = key
            self._listed = self._make(state, ui, samples, metric)
        return self._listed

    def row_of(self, job: str, near: int) -> int | None:
        """The position of a job in the list; `near`: where it was."""
        listed = self._listed
        for row in (near, near + 1, near - 1):
            if 0 <= row < len(listed) and listed[row].job_id == job:
                return row
        return next((row for row, record in enumerate(listed) if record.job_id == job), None)

    def _make(self, state: RunState, ui: UiState, samples: Samples, metric: str) -> list[JobRecord]:
        groups: dict[str, list[JobRecord]] = {name: [] for name in _GROUPS}
        wanted = self._matcher(ui.filter)
        for record in state.active.values():
            if record.planned and (wanted is None or wanted(record)):
                groups["waiting" if is_queued(record) else "running"].append(record)
        for record in state.jobs.values():
            if record.planned and record.job_id not in state.active and (wanted is None or wanted(record)):
                groups[group_of(record)].append(record)
        for name in _GROUPS:
            if ui.show and name != ui.show:
                groups[name] = []
        if ui.sort == "state":
            listed = _by_state(groups)
        else:
            everything = [record for name in _GROUPS for record in groups[name]]
            listed = sorted(everything, key=_sort_key(ui.sort, samples, metric))
        return listed[::-1] if ui.reverse else listed

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


def _by_state(groups: Mapping[str, list[JobRecord]]) -> list[JobRecord]:
    """What needs attention first: running, failed (the latest first), waiting (retries, then in order of start), ended
    (the latest first)."""
    waiting = sorted(groups["waiting"], key=lambda r: (not r.attempts, r.rank, r.index))
    ended = [sorted(groups[name], key=_ended_at, reverse=True) for name in ("failed", "succeeded", "cancelled")]
    return [*groups["running"], *ended[0], *waiting, *ended[1], *ended[2]]


def _ended_at(record: JobRecord) -> float:
    state = record.state
    assert isinstance(state, Succeeded | Failed | Cancelled)
    return state.ended_at


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
