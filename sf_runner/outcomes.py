"""What the files of an attempt say about it: whether it was done, why it failed, when it last wrote anything."""

from __future__ import annotations

from pathlib import Path

from sf_runner.backends.base import Ended, NotStarted
from sf_runner.failures import explain, make_cause
from sf_runner.job_state import FailureCause, JobRecord, Stopping
from sf_runner.paths import JobPaths
from sf_runner.progress import Progress, read_progress
from sf_runner.scheduler import Policy

_DONE_PHASES = ("done", "finished", "completed")
_CLOCK_SKEW_S = 1.0
"""Between the machine that runs the job and this one."""


def attempt_progress(path: str | Path, since: float) -> Progress | None:
    """What the progress file says, unless an attempt before `since` (unix seconds) left it behind."""
    progress = read_progress(path)
    return progress if progress is not None and progress.time_unix_s >= since - _CLOCK_SKEW_S else None


def is_completed(paths: JobPaths, since: float) -> bool:
    """Whether the attempt started at `since` says in its progress file that it did everything it was to do."""
    progress = attempt_progress(paths.progress, since)
    if progress is None:
        return False
    if progress.phase in _DONE_PHASES:
        return True
    return progress.step is not None and progress.total is not None and progress.step >= progress.total > 0


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
    return make_cause("timeout", f"ran longer than {limit} (--timeout)", "timeout")


def last_sign_of_life(paths: JobPaths, attempt: int) -> float | None:
    """Unix time of the last write to the attempt's log or the progress file; None while it has written nothing."""
    times = []
    try:
        status = paths.attempt_log(attempt).stat()
        if status.st_size:
            times.append(status.st_mtime)
    except OSError:
        pass
    try:
        times.append(paths.progress.stat().st_mtime)
    except OSError:
        pass
    return max(times, default=None)
