"""A run at which no run loop is at work, and a command that has to know or end what still runs there."""

from __future__ import annotations

import select
from collections.abc import Sequence

from sf_runner.backends.base import Backend, Remark, Report
from sf_runner.basics.clock import SYSTEM_CLOCK, steady_s
from sf_runner.basics.errors import StorageError
from sf_runner.basics.paths import RunPaths
from sf_runner.cli.backends import kind_of
from sf_runner.engine.outcomes import record_reports
from sf_runner.engine.scheduler import Policy
from sf_runner.state.events import Event
from sf_runner.state.fold import RunState
from sf_runner.store.journal import Journal


class ReopenedRun:
    """Writes down what a backend reports. The caller holds the run's lock and has opened its journal."""

    def __init__(self, paths: RunPaths, journal: Journal, state: RunState) -> None:
        self.paths = paths
        self.state = state
        self.told = ""
        """What the backend said last."""
        self._journal = journal
        self._policy = Policy(max_retries=state.max_retries)

    def open_backend(self) -> Backend:
        """That of the last start, as far as it takes to watch and end what was left there."""
        assert self.state.opened is not None, "nothing was ever started"
        backend = kind_of(self.state.opened.backend).reopen(self.paths, self.state)
        backend.open()
        return backend

    def look(self, backend: Backend) -> None:
        """Take in what happened since; waits for a moment if nothing did."""
        select.select(backend.fds(), (), (), 0.1)
        self.take(backend.poll(steady_s()))

    def take(self, reports: Sequence[Report]) -> None:
        """Write down what these reports mean."""
        for report in reports:
            if isinstance(report, Remark):
                self.told = report.text
        now = SYSTEM_CLOCK.wall()
        record_reports(
            reports, self.state.jobs, lambda job: self.paths.job(job.job_id), self._policy, self.emit, now=now
        )

    def emit(self, event: Event) -> None:
        self._journal.append((event,))
        self.state.apply(event)

    def flush(self) -> None:
        """Before anything is done that the journal has to know of. StorageError when the disk is full."""
        if not self._journal.flush():
            raise StorageError(f"cannot write {self._journal.path}: {self._journal.trouble}; free some space first")
