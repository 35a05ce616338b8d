"""What became of an attempt: a function of what its wrapper wrote and what Slurm says. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sf_runner.backends.base import Ended, Fate, NotStarted, Remark, Report, Started
from sf_runner.backends.slurm.states import Meaning
from sf_runner.backends.slurm.task_records import AttemptEnd, AttemptStart, JobHistory, TaskHistory
from sf_runner.slots.placement import Placement
from sf_runner.state.failures import make_cause
from sf_runner.state.jobs import FailureCause

_NOTHING = JobHistory()
_AGAIN = ("limit", "term", "lost")


@dataclass(kw_only=True)
class Unit:
    """An attempt that the run believes to be queued or running; the next one when it is queued again."""

    job: str
    attempt: int
    started: bool = False
    stopping: bool = False


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What is known of its task at one moment.

    slurm: what Slurm says; None: nothing is known now.
    settled: Slurm has said so for long enough that the wrapper's last words must have arrived.
    record: the exit record of that attempt, if there is one.
    words: the last line of the job script's own output.
    """

    task: TaskHistory
    slurm: Meaning | None
    settled: bool
    now: float
    handle: Mapping[str, Any]
    record: Mapping[str, Any] | None = None
    words: str = ""


def may_hold(history: JobHistory | None, first: int, attempt: int) -> bool:
    """Whether a task whose first attempt of a job was `first` can be the one in which `attempt` queues or runs."""
    if history is None or not history.last:
        return attempt == first
    if attempt <= history.last:
        return True
    end = history.ends.get(history.last)
    return attempt == history.last + 1 and (end is None or (end.reason in _AGAIN and not end.error))


def advance(unit: Unit, seen: Observation) -> tuple[list[Report], bool]:
    """(what is to be reported, whether the unit is over). Call it again with the next record when it is not over and
    something was reported: several attempts may have passed."""
    history = seen.task.jobs.get(unit.job, _NOTHING)
    reports: list[Report] = []
    start, end = history.starts.get(unit.attempt), history.ends.get(unit.attempt)
    if start is not None and not unit.started:
        unit.started = True
        reports.append(_started(unit, start, seen))
    ended = _end_of(unit, history, start, end, seen)
    if ended is None:
        return reports, False
    reports.append(ended)
    if end is not None and end.doubt:
        reports.append(Remark(text=end.doubt, job=unit.job))
    if isinstance(ended, Ended) and ended.fate == "requeued":
        unit.attempt += 1
        unit.started = False
        return reports, False
    return reports, True


def _end_of(
    unit: Unit, history: JobHistory, start: AttemptStart | None, end: AttemptEnd | None, seen: Observation
) -> Ended | NotStarted | None:
    queued_again = history.last > unit.attempt or (seen.slurm is not None and seen.slurm.phase == "queued")
    if end is None:
        if history.last > unit.attempt:
            return _ended(unit, seen, "requeued", make_cause("lost", "its machine or its job was gone", "lost"))
        if start is not None and queued_again and not unit.stopping:
            return _ended(unit, seen, "requeued", _gone(seen))
        return _without_record(unit, seen)
    if end.reason == "taken":
        return None  # its end is that of the task that runs it
    if end.reason == "error":
        return NotStarted(job=unit.job, attempt=unit.attempt, t=end.t, error=end.error, permanent=not end.oom)
    if end.reason in ("", "order") or unit.stopping:
        cause = make_cause("host_oom", "out of memory (killed by the kernel)", "host_oom") if end.oom else None
        return Ended(job=unit.job, attempt=unit.attempt, t=end.t, record=end.record, cause=cause)
    if end.reason == "limit" and end.error:
        return _ended(unit, seen, "failed", make_cause("timeout", end.error, "no further"), end)
    if queued_again:
        return _ended(unit, seen, "requeued", _cause_of(end), end)
    if seen.slurm is None or seen.slurm.phase == "running" or not seen.settled:
        return None
    return _end_on_request(unit, end, seen)


def _end_on_request(unit: Unit, end: AttemptEnd, seen: Observation) -> Ended:
    """It was told to end, and the task was not queued again."""
    assert seen.slurm is not None
    if end.reason == "limit":
        error = seen.task.requeue_error
        if error.startswith("--"):
            return _ended(unit, seen, "failed", make_cause("timeout", f"its time was over; {error}", "timeout"), end)
        return _ended(unit, seen, "requeue", _cause_of(end), end)
    kind, fate, words = seen.slurm.kind, seen.slurm.fate, seen.slurm.words
    if kind in ("lost", "spawn"):  # Slurm has no better word for it than we have
        kind, fate, words = "lost", "requeue", "ended from outside (TERM)"
    return _ended(unit, seen, fate, make_cause(kind, words, kind), end)


def _without_record(unit: Unit, seen: Observation) -> Ended | None:
    """Its wrapper said nothing about its end: Slurm has the word, once it is final."""
    if seen.slurm is None or seen.slurm.phase != "over" or not seen.settled:
        return None
    if seen.record is not None:
        return Ended(job=unit.job, attempt=unit.attempt, t=seen.now, record=seen.record)
    if unit.stopping:
        return Ended(job=unit.job, attempt=unit.attempt, t=seen.now, record=None)
    if not unit.started and seen.task.fresh and seen.slurm.kind in ("spawn", "lost"):
        words = f"its wrapper failed: {seen.words or seen.slurm.words}"
        return _ended(unit, seen, "failed", make_cause("spawn", words, f"wrapper|{seen.words}"))
    if not unit.started and seen.task.begins and seen.slurm.kind in ("spawn", "lost"):
        # The script is good, the wrapper has begun before. Slurm could not start the task again, or ended it too early.
        cause = make_cause("lost", f"its job ended before the experiment was started: {seen.slurm.words}", "lost")
        return _ended(unit, seen, "requeue", cause)
    words = seen.slurm.words
    if not unit.started and seen.words and seen.slurm.fate != "cancelled":
        words = f"its job ended before the experiment was started: {seen.words}"
    fate: Fate = seen.slurm.fate
    if not unit.started and fate == "requeue" and seen.slurm.kind == "lost" and seen.words:
        fate = "failed"  # the script itself is at fault: it would end in the same way again
    return _ended(unit, seen, fate, make_cause(seen.slurm.kind, words, f"{seen.slurm.kind}|{seen.slurm.words}"))


def _ended(unit: Unit, seen: Observation, fate: Fate, cause: FailureCause, end: AttemptEnd | None = None) -> Ended:
    record = end.record if end is not None else None
    t = end.t if end is not None else seen.now
    return Ended(job=unit.job, attempt=unit.attempt, t=t, record=record, fate=fate, cause=cause)


def _gone(seen: Observation) -> FailureCause:
    return make_cause("node_failed", "its node failed or Slurm took it back; it is queued again", "node_failed")


def _cause_of(end: AttemptEnd) -> FailureCause:
    if end.reason == "limit":
        return make_cause("timeout", "its time was over; it is queued again", "limit")
    return make_cause("preempted", "ended from outside (preempted or queued again by Slurm)", "preempted")


def _started(unit: Unit, start: AttemptStart, seen: Observation) -> Started:
    indices = [int(text) for text in (start.gpus or "").split(",") if text.isdigit()]
    return Started(
        job=unit.job,
        attempt=unit.attempt,
        handle={**seen.handle, "pid": start.pid, "node": start.node},
        t=start.t,
        placement=Placement(node=start.node, gpu_indices=tuple(indices)),
    )
