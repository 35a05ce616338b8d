"""What people ask of a run: the events that follow from a request, and the answer. Pure."""

from __future__ import annotations

from sf_runner.basics.requests import Request
from sf_runner.state import events as ev
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import ACTIVE, Cancelled, Failed, JobRecord, Waiting


class Refusal(str):
    """Why something that was asked for is not done."""

    __slots__ = ()


def cancel(request: Request, state: RunState, now: float) -> tuple[list[JobRecord], list[ev.Event], str]:
    """(running jobs that have to be told to end, events, answer); without a list all jobs."""
    wanted = dict.fromkeys(request.jobs or state.jobs)
    records = [record for job in wanted if (record := state.jobs.get(job)) is not None]
    active = [record for record in records if isinstance(record.state, ACTIVE)]
    waiting = [record for record in records if isinstance(record.state, Waiting)]
    events: list[ev.Event] = [ev.JobCancelled(t=now, job=record.job_id) for record in waiting]
    return active, events, f"{len(active)} running told to end, {len(waiting)} waiting cancelled"


def retry(request: Request, state: RunState, now: float) -> tuple[list[ev.Event], str]:
    """Failed and cancelled jobs (without a list: those that failed) wait again."""
    wanted = dict.fromkeys(request.jobs or (record.job_id for record in state.failures()))
    records = [record for job in wanted if (record := state.jobs.get(job)) is not None and record.planned]
    again = [record for record in records if isinstance(record.state, Failed | Cancelled)]
    if not again:
        return [], Refusal("nothing to try again: none of these failed or was cancelled")
    if state.draining is not None:
        flags = {"--retry_failed" if isinstance(record.state, Failed) else "--retry_cancelled" for record in again}
        how = " ".join(sorted(flags, reverse=True))
        text = "not tried again: the run is ending and starts nothing any more; give its command again with"
        return [], Refusal(f"{text} {how}")
    when = " when launching is resumed" if state.paused else ""
    return [ev.JobRequeued(t=now, job=record.job_id) for record in again], f"{len(again)} will be tried again{when}"


def change_pace(request: Request, state: RunState, now: float) -> tuple[list[ev.Event], str]:
    """Pause, resume, or another number side by side."""
    if state.draining is not None and request.action != "pause":
        return [], Refusal("nothing is started any more: the run is ending")
    if request.action == "parallel":
        number = max(1, request.number)
        return [ev.PaceChanged(t=now, max_parallel=number)], f"at most {number} side by side"
    paused = request.action == "pause"
    return [ev.PaceChanged(t=now, paused=paused)], "launching paused" if paused else "launching resumed"
