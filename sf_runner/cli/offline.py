"""Cancelling in a run whose runner is gone: take its place for a moment."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace

from sf_runner.backends.base import Remark, Report
from sf_runner.basics.clock import SYSTEM_CLOCK, boot_id, steady_s
from sf_runner.basics.errors import BackendError, StorageError
from sf_runner.basics.paths import RunPaths
from sf_runner.cli.backends import kind_of
from sf_runner.engine.launching import LaunchBuilder, known_attempts
from sf_runner.engine.outcomes import record_reports
from sf_runner.engine.scheduler import Policy
from sf_runner.linux.kernel import started_up_s
from sf_runner.state import events as ev
from sf_runner.state.jobs import ACTIVE, Waiting
from sf_runner.store.journal import Journal
from sf_runner.store.lock import run_lock

_KILLED_GONE_S = 60.0
"""After KILL a process is gone, unless it hangs in the kernel."""


def cancel_offline(paths: RunPaths, jobs: Sequence[str], *, grace_s: float, now: Callable[[], float]) -> str:
    """Cancel these jobs (all that have not ended when empty) and wait until their processes are gone.

    Attempts that ended by themselves since their runner was killed keep their results. Raises StorageError when the
    journal cannot be written, BackendError when a process cannot be killed.
    """
    with run_lock(paths):
        canceller = _Canceller(paths, now)
        try:
            return canceller.cancel(jobs, grace_s)
        finally:
            canceller.close()


class _Canceller:
    def __init__(self, paths: RunPaths, now: Callable[[], float]) -> None:
        self._paths = paths
        self._now = now
        self._told = ""
        """What the backend said last."""
        self._launches = LaunchBuilder(paths)
        self._journal, self._state = Journal.open(paths.journal, paths.run_name)
        if self._state.opened is not None:  # else nothing was ever started, and there is nothing to cancel
            self._emit(
                replace(
                    self._state.opened,
                    t=now(),
                    pid=os.getpid(),
                    up=started_up_s(os.getpid()) or 0.0,
                    host=socket.gethostname(),
                    boot_id=boot_id(),
                    command=(),
                    max_parallel=self._state.max_parallel,
                    guardians=(),
                    clocks=SYSTEM_CLOCK.now().unset,
                )
            )

    def cancel(self, jobs: Sequence[str], grace_s: float) -> str:
        records = self._state.jobs
        wanted = [records[job] for job in jobs] if jobs else list(records.values())
        active = [record.job_id for record in wanted if isinstance(record.state, ACTIVE)]
        ended = self._end(active, grace_s) if active else 0
        waiting = [record for record in wanted if isinstance(record.state, Waiting)]
        for record in waiting:
            self._emit(ev.JobCancelled(t=self._now(), job=record.job_id))
        self._flush()
        return f"{ended} running ended, {len(waiting)} waiting cancelled"

    def close(self) -> None:
        if self._state.opened is not None:
            self._emit(ev.RunClosed(t=self._now(), exit_code=1))
        self._journal.close(self._state)

    def _end(self, jobs: Sequence[str], grace_s: float) -> int:
        """End these; how many of them still ran."""
        state = self._state
        assert state.opened is not None, "an active job without a runner"
        backend = kind_of(state.opened.backend).reopen(self._paths, state)
        backend.open()
        left = set(jobs)
        self._take(backend.adopt([item for item in known_attempts(state, self._paths) if item.job in left]), left)
        # What has only just ended, or is still being recorded, is found in the first look.
        running = len(left)
        for job in left:
            self._emit(ev.StopRequested(t=self._now(), job=job, attempt=state.jobs[job].attempts, reason="cancelled"))
        self._flush()
        for job in left:
            backend.stop(job, "terminate", grace_s)
        deadline = steady_s() + grace_s + _KILLED_GONE_S
        while left:
            select.select(backend.fds(), (), (), 0.1)
            self._take(backend.poll(steady_s()), left)
            if left and steady_s() > deadline:
                why = self._told or "stuck in the kernel, state D in ps?"
                raise BackendError(f"'{min(left)}' is still there after KILL ({why}); try again later")
        backend.close(detach=False)
        return running

    def _take(self, reports: Sequence[Report], left: set[str]) -> None:
        policy = Policy(max_retries=self._state.max_retries)
        for report in reports:
            if isinstance(report, Remark):
                self._told = report.text

        def emit(event: ev.Event) -> None:
            self._emit(event)
            if isinstance(event, ev.AttemptEnded):
                left.discard(event.job)
            elif isinstance(event, ev.AttemptSubmitted):
                left.add(event.job)

        record_reports(reports, self._state.jobs, self._launches.paths, policy, emit, now=SYSTEM_CLOCK.wall())

    def _emit(self, event: ev.Event) -> None:
        self._journal.append([event])
        self._state.apply(event)

    def _flush(self) -> None:
        """Before anything is done that the journal has to know of."""
        if not self._journal.flush():
            raise StorageError(f"cannot write {self._journal.path}: {self._journal.trouble}; free some space first")
