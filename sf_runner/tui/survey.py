"""What only a look at all jobs tells; afterwards, at those that have changed."""

from __future__ import annotations

from collections.abc import Sequence

from sf_runner.state import events as ev
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import JobRecord, Waiting
from sf_runner.tui.alerts import failure_text
from sf_runner.tui.order import changed_jobs
from sf_runner.tui.text import width_of
from sf_runner.tui.view_model import short_name


class Survey:
    """`attempts`: whether some job was tried more than once; `longest_name`: in columns; `failures`: causes so far."""

    def __init__(self) -> None:
        self.attempts = False
        self.longest_name = 0
        self.failures = ""
        self._retrying: set[str] = set()
        self._changed: set[str] | None = None
        self._jobs = self._failed = -1
        self._of = 0

    @property
    def retrying(self) -> int:
        """Waiting jobs that have run before."""
        return len(self._retrying)

    def took(self, events: Sequence[ev.Event]) -> None:
        """What happened since the last look."""
        changed = changed_jobs(events)
        self._changed = None if changed is None or self._changed is None else self._changed | changed

    def look(self, state: RunState) -> None:
        """Bring it up to date."""
        if self._changed is None or self._of != id(state):
            self._of = id(state)
            self._retrying.clear()
            for record in state.jobs.values():
                self._look_at(record)
        else:
            for job in self._changed:
                self._look_at(state.jobs[job])
        self._changed = set()
        if self._jobs != len(state.jobs):
            self._jobs = len(state.jobs)
            self.longest_name = max((width_of(short_name(job)) for job in state.jobs), default=0)
        if self._failed != state.count("Failed"):
            self._failed = state.count("Failed")
            self.failures = failure_text(state)

    def _look_at(self, record: JobRecord) -> None:
        self.attempts = self.attempts or record.attempts > 1
        if record.attempts and record.planned and isinstance(record.state, Waiting):
            self._retrying.add(record.job_id)
        else:
            self._retrying.discard(record.job_id)
