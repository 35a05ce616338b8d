"""Cancelling in a run whose runner is gone: take its place for a moment."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Sequence

from sf_runner import events as ev
from sf_runner.backends.base import Ended
from sf_runner.backends.kernel import started_up_s
from sf_runner.backends.process_tools import boot_id
from sf_runner.backends.processes import ProcessesBackend
from sf_runner.cli.session import known_attempts
from sf_runner.job_state import ACTIVE, Waiting
from sf_runner.journal import Journal
from sf_runner.paths import RunPaths
from sf_runner.run_lock import run_lock
from sf_runner.run_state import RunState


def cancel_offline(paths: RunPaths, jobs: Sequence[str], *, grace_s: float, now: Callable[[], float]) -> str:
    """Cancel these jobs (all that have not ended when empty) and wait until their processes are gone."""
    with run_lock(paths):
        journal, events = Journal.open(paths.journal, paths.run_name)
        state = RunState()
        state.apply_all(events)

        def emit(event: ev.Event) -> None:
            journal.append([event])
            state.apply(event)

        emit(_opened(state, now()))
        wanted = [record for record in state.jobs.values() if not jobs or record.job_id in jobs]
        waiting = [record for record in wanted if isinstance(record.state, Waiting)]
        for record in waiting:
            emit(ev.JobCancelled(t=now(), job=record.job_id))
        active = [record.job_id for record in wanted if isinstance(record.state, ACTIVE)]
        ended = _end(paths, state, active, emit, grace_s, now)
        emit(ev.RunClosed(t=now(), exit_code=1))
        journal.close()
    return f"{ended} running ended, {len(waiting)} waiting cancelled"


def _opened(state: RunState, now: float) -> ev.RunOpened:
    return ev.RunOpened(
        t=now,
        pid=os.getpid(),
        up=started_up_s(os.getpid()) or 0.0,
        host=socket.gethostname(),
        backend=state.opened.backend if state.opened else "processes",
        boot_id=boot_id(),
        max_parallel=state.max_parallel,
        max_retries=state.max_retries,
    )


def _end(
    paths: RunPaths,
    state: RunState,
    jobs: Sequence[str],
    emit: Callable[[ev.Event], None],
    grace_s: float,
    now: Callable[[], float],
) -> int:
    if not jobs:
        return 0
    backend = ProcessesBackend(state.run_id, recorders=state.runners[:-1])
    backend.open()
    known = [item for item in known_attempts(state, paths) if item.job in jobs]
    for job in jobs:
        emit(ev.StopRequested(t=now(), job=job, attempt=state.jobs[job].attempts, reason="cancelled"))
    reports = backend.adopt(known)
    for job in jobs:
        backend.stop(job, "terminate", grace_s)
    left = set(jobs)
    while True:
        for report in reports:
            if isinstance(report, Ended):
                left.discard(report.job)
                emit(ev.AttemptEnded(t=report.t, job=report.job, attempt=report.attempt, verdict="cancelled"))
        if not left:
            break
        select.select(backend.fds(), (), (), 0.1)
        reports = backend.poll(now())
    backend.close(detach=False)
    return len(jobs)
