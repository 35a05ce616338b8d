"""What an attempt that ended means for its job: success, failure, or another attempt, and when. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sf_runner.basics.backoff import doubled
from sf_runner.engine.scheduler import Policy
from sf_runner.state.events import AttemptEnded
from sf_runner.state.jobs import FailureCause, JobRecord, Stopping, Verdict

MAX_OOM_RETRIES: Final = 2
"""Retries after an out-of-memory on the GPU, whatever --max_retries says."""
MAX_START_FAILURES: Final = 10
"""In a row, with ever longer waits (17 minutes in all); then the machine is not going to start this job."""
MAX_LOSSES: Final = 3
"""In a row of which their cluster says no more than that they are gone; each further one counts as a failure."""
_MAX_RETRY_DELAY_S = 600.0


def judge(
    record: JobRecord,
    *,
    t: float,
    duration_s: float,
    exit_record: Mapping[str, Any] | None,
    cause: FailureCause | None,
    completed: bool,
    policy: Policy,
    permanent: bool = False,
    fate: str | None = None,
) -> AttemptEnded:
    """What an ended attempt means for its job.

    An attempt that was told to end counts as a success only if it exited with 0 and its progress file says that it
    was done (`completed`): a program that saves and exits with 0 on TERM has not finished. That file also decides
    where nobody saw the end (`exit_record` None): what is done is not repeated.

    `cause` explains a failure; `permanent`: a retry cannot help; `fate`: what the backend says, see `backends.base`.
    """
    code = exit_record.get("exit_code") if exit_record else None
    stop = record.state.reason if isinstance(record.state, Stopping) else None
    nobody_saw = exit_record is None and stop is None and not permanent and fate is None
    verdict: Verdict
    if (completed and (exit_record is None or code == 0)) or (code == 0 and stop is None and fate is None):
        verdict, cause = "succeeded", None
    elif stop == "cancelled":
        verdict, cause = "cancelled", None
    elif fate == "cancelled":
        verdict = "cancelled"
    elif stop in ("shutdown", "slot_lost", "preempted"):
        verdict, cause = "requeue", None
    elif _is_repeated(record, cause, fate) or (nobody_saw and record.start_failures < MAX_START_FAILURES):
        verdict = "requeue"
    else:
        assert cause is not None, "a failed attempt has a cause"
        verdict = _retry_or_fail(record, cause, policy, permanent)
    delay_s = 0.0
    if verdict == "retry":
        delay_s = doubled(policy.retry_delay_s, record.failures, _MAX_RETRY_DELAY_S)
    elif verdict == "requeue" and cause is not None and cause.kind == "spawn":
        delay_s = doubled(1.0, record.start_failures, _MAX_RETRY_DELAY_S)
    elif verdict == "requeue" and fate == "requeue" and cause is not None and cause.kind == "lost" and record.losses:
        delay_s = doubled(policy.retry_delay_s, record.losses - 1, _MAX_RETRY_DELAY_S)
    usage = exit_record or {}
    return AttemptEnded(
        t=t,
        job=record.job_id,
        attempt=record.attempts,
        verdict=verdict,
        code=code,
        signal=usage.get("signal"),
        duration_s=round(duration_s, 3),
        not_before=t + delay_s if delay_s else 0.0,
        cause=cause,
        leftovers=usage.get("leftovers", 0),
        max_rss_mb=usage.get("max_rss_mb"),
        cpu_s=usage.get("cpu_s"),
    )


def _is_repeated(record: JobRecord, cause: FailureCause | None, fate: str | None) -> bool:
    """Whether the place where it ran is to blame, and it has not been lost there too often. What is queued again is."""
    lost = fate == "requeue" and cause is not None and cause.kind == "lost"
    return fate == "requeued" or (fate == "requeue" and not (lost and record.losses >= MAX_LOSSES))


def _retry_or_fail(record: JobRecord, cause: FailureCause, policy: Policy, permanent: bool) -> Verdict:
    if permanent:
        return "failed"
    if cause.kind == "gpu_oom" and record.oom_failures < MAX_OOM_RETRIES:
        return "retry"  # on a roomier slot, whatever --max_retries says
    return "retry" if record.failures < policy.max_retries else "failed"
