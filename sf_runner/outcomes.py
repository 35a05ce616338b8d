"""What the files of an attempt say about it: whether it was done, why it failed, when it last wrote anything."""

from __future__ import annotations

from sf_runner.backends.base import Ended, NotStarted
from sf_runner.failures import explain, make_cause
from sf_runner.job_state import FailureCause, JobRecord, Stopping
from sf_runner.paths import JobPaths
from sf_runner.progress import read_progress
from sf_runner.scheduler import Policy

_CLOCK_TOLERANCE_S = 1.0
_DONE_PHASES = ("done", "finished", "completed")


def is_completed(paths: JobPaths, since: float) -> bool:
    """Whether the progress file says that the program did everything it was to do, in the attempt that was started at
    `since` (unix seconds): an earlier attempt may have left the file."""
    progress = read_progress(paths.progress)
    if progress is None or progress.time_unix_s < since - _CLOCK_TOLERANCE_S:
        return False
    if progress.phase in _DONE_PHASES:
        return True
    return progress.step is not None and progress.total is not None and progress.step >= progress.total > 0


def cause_of(record: JobRecord, report: Ended | NotStarted, paths: JobPaths, policy: Policy) -> FailureCause | None:
    """Why the attempt failed; None when it exited with 0."""
    if isinstance(report, NotStarted):
        return make_cause("spawn", report.error, report.error)
    if report.record is None:
        if not paths.attempt_log(report.attempt).exists():
            return make_cause("lost", "the runner was killed before it could start it", "not started")
        return make_cause("lost", "nobody saw how it ended (runner and job starter were gone)", "lost")
    if isinstance(record.state, Stopping) and record.state.reason == "timeout":
        limit = record.info.get("timeout_s") or policy.timeout_s
        return make_cause("timeout", f"ran longer than {limit:g} s (--timeout)", "timeout")
    if isinstance(record.state, Stopping) and record.state.reason == "stalled":
        limit = policy.stall_timeout_s or 0
        return make_cause("stalled", f"wrote nothing for {limit:g} s (--stall_timeout)", "stalled")
    code, signum = report.record.get("exit_code"), report.record.get("signal")
    if code == 0:
        return None
    return explain(paths.attempt_log(report.attempt), code=code, signum=signum)


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
