"""What the backend of a cluster knows of each of its attempts, and what it makes of what the cluster says of them."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sf_runner.backends.base import Ended, Fate, Started
from sf_runner.backends.cluster.answers import ClusterJob
from sf_runner.backends.cluster.api import JobState
from sf_runner.linux.exit_record import read_record, write_record
from sf_runner.state.failures import make_cause
from sf_runner.state.jobs import CauseKind, FailureCause

Phase = Literal["waiting", "submitting", "left_behind", "lookup", "known"]
"""waiting: to be submitted. submitting: the command runs. left_behind: the command of an earlier runner may still run.
lookup: nobody knows whether the cluster has it; its list will tell. known: its id is known."""
ENDINGS: tuple[JobState, ...] = ("preempted", "lost")
"""States after which a job is submitted again, once it is certain that it does not run any more."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why it is given up if the cluster does not have it. `permanent`: trying again cannot help."""

    error: str
    permanent: bool


@dataclass(kw_only=True)
class ClusterAttempt:
    """One attempt. Times are of the steady clock.

    names: those by which it can be found. argv: the command that submits it; None: an earlier runner did.
    unseen: looks in a row that found no command of an earlier runner.
    unsure_since: from then on no command is left that could still submit it.
    known_since: when its id became known; an older list need not show it.
    refusal: None: it is submitted (again) when the cluster does not have it.
    ending: it is over, but has to be killed before it may run again.
    """

    job: str
    attempt: int
    names: tuple[str, ...]
    argv: tuple[str, ...] | None
    log: str
    exit_record: str
    phase: Phase
    id: str = ""
    unseen: int = 0
    unsure_since: float = 0.0
    known_since: float = 0.0
    refusal: Refusal | None = None
    started: bool = False
    missing_since: float | None = None
    misses: int = 0
    asking: bool = False
    stop: bool = False
    ending: JobState | None = None
    last_seen: ClusterJob | None = None
    kill_at: float = 0.0
    killing: bool = False
    kill_alone: bool = False
    kill_failed: bool = False

    @property
    def to_kill(self) -> bool:
        return self.phase == "known" and not self.killing and (self.stop or self.ending is not None)

    def handle(self, cluster: str) -> dict[str, Any]:
        return {"cloud": cluster, "id": self.id, "name": self.names[0]}

    def start(self, cluster: str, t: float) -> Started:
        self.started = True
        return Started(job=self.job, attempt=self.attempt, handle=self.handle(cluster), t=t)

    def make_room(self) -> None:
        """Its folder, where the job may see it too, without the record of an attempt of a run that was removed."""
        with contextlib.suppress(OSError):
            Path(self.log).parent.mkdir(parents=True, exist_ok=True)
            Path(self.exit_record).unlink(missing_ok=True)

    def note(self, text: str) -> None:
        """Append a line to its log: there is nothing else in it unless the job writes there itself."""
        try:
            with Path(self.log).open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text + "\n")
        except OSError:  # the disk is full: it is only for people
            pass


_KINDS: Mapping[JobState, CauseKind] = {
    "failed": "exit",
    "timeout": "timeout",
    "cancelled": "cancelled",
    "preempted": "preempted",
    "lost": "lost",
}
_WORDS: Mapping[JobState, str] = {
    "failed": "failed",
    "timeout": "ran longer than its template allows",
    "cancelled": "was ended from outside",
    "preempted": "was preempted",
    "lost": "was lost",
}
_FATES: Mapping[JobState, Fate] = {
    "failed": "failed",
    "timeout": "failed",
    "cancelled": "cancelled",
    "preempted": "requeue",
    "lost": "requeue",
}


def ended(attempt: ClusterAttempt, state: JobState, cluster: str, now: float, *, give_up: bool = False) -> Ended:
    """The report of its end; its record is on disk afterwards. `give_up`: it is not worth another try.

    The record that the job itself wrote (where its results folder is this one) says best how it succeeded or failed.
    """
    job = attempt.last_seen
    own = read_record(attempt.exit_record, attempt.attempt)
    record: Mapping[str, Any] = own if own is not None else _record(attempt, state, cluster, now)
    t = job.ended if job is not None and job.ended is not None else now
    fate: Fate | None = None
    cause: FailureCause | None = None
    if not attempt.stop and state in _FATES and not (own is not None and state == "failed"):
        fate, cause = "failed" if give_up else _FATES[state], _cause(state, job, cluster)
    if own is None:
        attempt.note(f"{cluster}: {_words(job, state)}")
        with contextlib.suppress(OSError):
            write_record(attempt.exit_record, record)
    return Ended(job=attempt.job, attempt=attempt.attempt, t=t, record=record, fate=fate, cause=cause)


def _record(attempt: ClusterAttempt, state: JobState, cluster: str, now: float) -> dict[str, Any]:
    job = attempt.last_seen
    code = job.exit_code if job is not None else None
    if state == "succeeded":
        code = 0
    elif code == 0:  # some say 0 where they know nothing
        code = None
    killed = attempt.stop and state != "succeeded"
    return {
        "version": 1,
        "attempt": attempt.attempt,
        "exit_code": None if killed else code,
        "signal": int(signal.SIGTERM) if killed else None,
        "started": job.started if job is not None else None,
        "ended": job.ended if job is not None and job.ended is not None else round(now, 3),
        "cloud": cluster,
        "id": attempt.id,
        "state": job.state if job is not None else "",
    }


def _cause(state: JobState, job: ClusterJob | None, cluster: str) -> FailureCause:
    code = f", exit code {job.exit_code}" if job is not None and job.exit_code else ""
    summary = f"{_WORDS[state]} ({cluster}: {_words(job, state)}{code})"
    return make_cause(_KINDS[state], summary, f"{state}|{job.state if job is not None else ''}{code}")


def _words(job: ClusterJob | None, state: JobState) -> str:
    if job is None:
        return "it is not in the list any more" if state == "lost" else state
    return f"{job.state}: {job.details}" if job.details else job.state
