"""What the files of an attempt say about it: whether it was done, why it failed, when it last wrote anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from sf_runner.backends.base import Ended, NotStarted, Remark, Report, Started, Withdrawn
from sf_runner.basics.paths import JobPaths
from sf_runner.engine.retries import judge
from sf_runner.engine.scheduler import Policy
from sf_runner.progress import Progress, read_progress
from sf_runner.state import events as ev
from sf_runner.state.failures import explain, make_cause
from sf_runner.state.jobs import ACTIVE, FailureCause, JobRecord, Running, Stopping, Submitted

_Timed = TypeVar("_Timed", bound=Started | Ended | NotStarted | Withdrawn)


def attempt_progress(path: str | Path, attempt: int) -> Progress | None:
    """What the progress file says, unless another attempt wrote it."""
    progress = read_progress(path)
    return progress if progress is not None and progress.is_of(attempt) else None


def is_completed(paths: JobPaths, attempt: int) -> bool:
    """Whether that attempt says in its progress file that it did everything it was to do."""
    progress = attempt_progress(paths.progress, attempt)
    if progress is None or not progress.done:
        return False
    # Where the file does not say whose it is, it is an earlier attempt's until this one was started.
    return progress.attempt is not None or paths.attempt_log(attempt).exists()


def cause_of(record: JobRecord, report: Ended | NotStarted, paths: JobPaths, policy: Policy) -> FailureCause | None:
    """Why the attempt failed; None when it exited with 0."""
    if isinstance(report, NotStarted):
        return make_cause("spawn", report.error, report.error)
    if isinstance(record.state, Stopping) and record.state.reason in ("timeout", "stalled"):
        return _too_long(record, record.state.reason == "stalled", policy)
    if report.cause is not None:
        return report.cause
    if report.record is None:
        if not paths.attempt_log(report.attempt).exists():
            return make_cause("lost", "the runner was killed before it could start it", "not started")
        return make_cause("lost", "nobody saw how it ended (the runner was gone)", "lost")
    code, signum = report.record.get("exit_code"), report.record.get("signal")
    if code == 0:
        return None
    return explain(paths.attempt_log(report.attempt), code=code, signum=signum)


def _too_long(record: JobRecord, stalled: bool, policy: Policy) -> FailureCause:
    limit_s = policy.stall_timeout_s if stalled else record.timeout_s or policy.timeout_s
    # The limit may have been that of an earlier start, which told it to end.
    limit = "the time allowed" if limit_s is None else f"{limit_s:g} s"
    if stalled:
        return make_cause("stalled", f"wrote nothing for {limit} (--stall_timeout)", "stalled")
    said = "--timeout" if record.timeout_s is None else "timeout_s of its Resources"
    return make_cause("timeout", f"ran longer than {limit} ({said})", "timeout")


def judge_report(
    record: JobRecord, report: Ended | NotStarted, paths_of: Callable[[JobRecord], JobPaths], policy: Policy
) -> ev.AttemptEnded:
    """What the end of an attempt means for its job. Its files are looked at unless it simply succeeded."""
    state = record.state
    assert isinstance(state, ACTIVE), f"{record.job_id} holds no slot"
    exit_record = report.record if isinstance(report, Ended) else None
    fate = report.fate if isinstance(report, Ended) else None
    clean = (
        exit_record is not None and exit_record.get("exit_code") == 0 and not isinstance(state, Stopping) and not fate
    )
    paths = None if clean else paths_of(record)
    running = state.running if isinstance(state, Stopping) else state
    return judge(
        record,
        t=report.t,
        duration_s=_duration_s(running, report.t, exit_record),
        exit_record=exit_record,
        cause=cause_of(record, report, paths, policy) if paths else None,
        completed=paths is None or (isinstance(report, Ended) and is_completed(paths, report.attempt)),
        fate=fate,
        policy=policy,
        permanent=isinstance(report, NotStarted) and report.permanent,
    )


def _duration_s(running: Running | Submitted, ended_at: float, exit_record: Mapping[str, Any] | None) -> float:
    """How long it ran: as its parent measured it, if there is such a record."""
    measured = exit_record.get("duration_s") if exit_record is not None else None
    if isinstance(measured, int | float):
        return float(measured)
    if isinstance(running, Running):
        return running.elapsed_s(ended_at)
    return max(0.0, ended_at - running.submitted_at)


def record_reports(
    reports: Iterable[Report],
    jobs: Mapping[str, JobRecord],
    paths_of: Callable[[JobRecord], JobPaths],
    policy: Policy,
    record: Callable[[ev.Event], None],
    *,
    now: float,
) -> None:
    """Hand to `record` what the journal has to say of these reports. `record` must fold each event into `jobs`: what a
    report means depends on the reports before it. `now`: unix time."""
    for report in reports:
        timely = report if isinstance(report, Remark) else _timely(report, jobs[report.job], now)
        for event in _events_of(timely, jobs, paths_of, policy, now):
            record(event)


def _timely(report: _Timed, record: JobRecord, now: float) -> _Timed:
    """With the nearest time at which it can have happened: not in the future, nor before the attempt was submitted or
    started. Another machine's clock may say otherwise, or this one's before it was set."""
    state = record.state
    running = state.running if isinstance(state, Stopping) else state
    earliest = 0.0
    if isinstance(running, Running):
        earliest = running.started_at
    elif isinstance(running, Submitted):
        earliest = running.submitted_at
    t = min(max(report.t, earliest), max(now, earliest))
    return report if t == report.t else replace(report, t=t)


def _events_of(
    report: Report, jobs: Mapping[str, JobRecord], paths_of: Callable[[JobRecord], JobPaths], policy: Policy, now: float
) -> list[ev.Event]:
    """What the journal has to say of one report."""
    if isinstance(report, Started):
        where = report.placement.to_json() if report.placement is not None else None
        started = ev.AttemptStarted(
            t=report.t, job=report.job, attempt=report.attempt, handle=report.handle, placement=where
        )
        return [started]
    if isinstance(report, Remark):
        return [ev.Note(t=now, text=report.text, job=report.job)]
    if isinstance(report, Withdrawn):
        if not isinstance(jobs[report.job].state, Stopping):
            return [ev.AttemptWithdrawn(t=report.t, job=report.job, attempt=report.attempt)]
        report = Ended(job=report.job, attempt=report.attempt, t=report.t, record=None)
    ended = judge_report(jobs[report.job], report, paths_of, policy)
    if isinstance(report, NotStarted) or report.fate != "requeued" or ended.verdict != "requeue":
        return [ended]
    # The backend has queued the next attempt already.
    return [ended, ev.AttemptSubmitted(t=report.t, job=report.job, attempt=report.attempt + 1, placement={})]
