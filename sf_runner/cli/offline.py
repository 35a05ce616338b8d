"""Cancelling in a run whose runner is gone: take its place for a moment."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace

from sf_runner.basics.clock import SYSTEM_CLOCK, boot_id, steady_s
from sf_runner.basics.errors import BackendError
from sf_runner.basics.paths import RunPaths
from sf_runner.cli.reopened import ReopenedRun
from sf_runner.engine.launching import known_attempts
from sf_runner.linux.kernel import started_up_s
from sf_runner.state import events as ev
from sf_runner.state.jobs import ACTIVE, JobRecord, Waiting
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
        journal, state = Journal.open(paths.journal, paths.run_name)
        run = ReopenedRun(paths, journal, state)
        records = [state.jobs[job] for job in jobs] if jobs else list(state.jobs.values())
        started = state.opened is not None  # else there is nothing to cancel
        try:
            if started:
                run.emit(_opened_here(run, now()))
            ended = _end(run, records, grace_s, now)
            waiting = [record for record in records if isinstance(record.state, Waiting)]
            for record in waiting:
                run.emit(ev.JobCancelled(t=now(), job=record.job_id))
            run.flush()
            return f"{ended} running ended, {len(waiting)} waiting cancelled"
        finally:
            if started:
                run.emit(ev.RunClosed(t=now(), exit_code=1))
            journal.close(state)


def _opened_here(run: ReopenedRun, now: float) -> ev.RunOpened:
    assert run.state.opened is not None
    return replace(
        run.state.opened,
        t=now,
        pid=os.getpid(),
        up=started_up_s(os.getpid()) or 0.0,
        host=socket.gethostname(),
        boot_id=boot_id(),
        command=(),
        max_parallel=run.state.max_parallel,
        guardians=(),
        clocks=SYSTEM_CLOCK.now().unset,
    )


def _end(run: ReopenedRun, records: Sequence[JobRecord], grace_s: float, now: Callable[[], float]) -> int:
    """End those that run; how many did."""
    wanted = {record.job_id for record in _active(records)}
    if not wanted:
        return 0
    backend = run.open_backend()
    run.take(backend.adopt([item for item in known_attempts(run.state, run.paths) if item.job in wanted]))
    # What has only just ended, or is still being recorded, was found in the first look.
    running = _active(records)
    for record in running:
        run.emit(ev.StopRequested(t=now(), job=record.job_id, attempt=record.attempts, reason="cancelled"))
    run.flush()
    for record in running:
        backend.stop(record.job_id, "terminate", grace_s)
    deadline = steady_s() + grace_s + _KILLED_GONE_S
    while left := _active(records):
        if steady_s() > deadline:
            why = run.told or "stuck in the kernel, state D in ps?"
            raise BackendError(f"'{left[0].job_id}' is still there after KILL ({why}); try again later")
        run.look(backend)
    backend.close(detach=False)
    return len(running)


def _active(records: Sequence[JobRecord]) -> list[JobRecord]:
    return [record for record in records if isinstance(record.state, ACTIVE)]
