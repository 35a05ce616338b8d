"""What the backend of a cluster knows of each of its jobs, what it reports of them, and the records it writes."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sf_runner.backends.base import Ended, Fate, NotStarted, Remark, Report, Started
from sf_runner.backends.cluster.answers import ClusterJob
from sf_runner.backends.cluster.api import JobState
from sf_runner.backends.cluster.ids import IdFile
from sf_runner.basics.clock import SYSTEM_CLOCK, steady_s
from sf_runner.linux.exit_record import read_record, write_record
from sf_runner.state.failures import make_cause
from sf_runner.state.jobs import CauseKind, FailureCause

Phase = Literal["waiting", "submitting", "left_behind", "lookup", "known"]
"""waiting: to be submitted. submitting: the command runs. left_behind: the command of an earlier runner may still run.
lookup: nobody knows whether the cluster has it; its list will tell. known: its id is known."""
_UNSEEN = ClusterJob(id="", name="", state="")
_MAX_LOSSES = 5
"""How often a job may be lost in a row before it is taken to be at fault itself."""
_OUTCOMES: Mapping[JobState, tuple[Fate, CauseKind, str]] = {
    "failed": ("failed", "exit", "failed"),
    "timeout": ("failed", "timeout", "ran longer than its template allows"),
    "cancelled": ("cancelled", "cancelled", "was ended from outside"),
    "preempted": ("requeue", "preempted", "was preempted"),
    "lost": ("requeue", "lost", "was lost"),
}


@dataclass(kw_only=True)
class ClusterAttempt:
    """One attempt. Times are of the steady clock.

    names: those by which it can be found. argv: the command that submits it; None: an earlier runner did.
    unseen: looks in a row that found no command of an earlier runner.
    unsure_since: from then on no command is left that could still submit it.
    known_since: when its id became known; an older list need not show it.
    refusal: what is reported if the cluster does not have it; None: it is submitted (again).
    last_seen: what the cluster said of it; without a state where it has said nothing yet, or nothing any more.
    missing_since, misses: since when, and in how many answers in a row, the cluster does not know it.
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
    refusal: NotStarted | None = None
    started: bool = False
    last_seen: ClusterJob = _UNSEEN
    missing_since: float = 0.0
    misses: int = 0
    asking: bool = False
    stop: bool = False
    ending: JobState | None = None
    kill_at: float = 0.0
    killing: bool = False
    kill_alone: bool = False
    kill_failed: bool = False

    @property
    def to_kill(self) -> bool:
        return self.phase == "known" and not self.killing and (self.stop or self.ending is not None)

    def make_room(self) -> None:
        """Its folder, where the job may see it too, without the record and the progress of an earlier attempt."""
        with contextlib.suppress(OSError):
            Path(self.log).parent.mkdir(parents=True, exist_ok=True)
            Path(self.exit_record).unlink(missing_ok=True)
            Path(self.exit_record).with_name("progress.json").unlink(missing_ok=True)

    def note(self, text: str) -> None:
        """Append a line to its log: there is nothing else in it unless the job writes there itself."""
        with contextlib.suppress(OSError), Path(self.log).open("a", encoding="utf-8", errors="backslashreplace") as f:
            f.write(text + "\n")  # it is only for people: a full disk is no reason to fail


class ClusterJobs:
    """All attempts that have not ended, by job, and the reports that nobody has taken yet."""

    def __init__(self, cluster: str, ids: IdFile) -> None:
        self._cluster = cluster
        self._ids = ids
        self._losses: dict[str, int] = {}
        self.attempts: dict[str, ClusterAttempt] = {}
        self.reports: list[Report] = []

    def take_reports(self) -> list[Report]:
        reports, self.reports = self.reports, []
        return reports

    def tell(self, text: str, job: str = "") -> None:
        self.reports.append(Remark(text=text, job=job))

    def in_phase(self, *phases: Phase) -> list[ClusterAttempt]:
        return [attempt for attempt in self.attempts.values() if attempt.phase in phases]

    def has(self, attempt: ClusterAttempt) -> bool:
        return self.attempts.get(attempt.job) is attempt

    def found(self, attempt: ClusterAttempt, job_id: str) -> None:
        """The cluster has it; from now on the list tells of it."""
        attempt.phase, attempt.id, attempt.known_since = "known", job_id, steady_s()
        self._ids.add(attempt.job, attempt.attempt, self._cluster, job_id, attempt.names[0])
        attempt.note(f"{self._cluster} job {job_id}, called {attempt.names[0]}")

    def absent(self, attempt: ClusterAttempt) -> None:
        """It is certain that the cluster does not have it."""
        if attempt.stop or attempt.argv is None:
            self.never_ran(attempt)
        elif attempt.refusal is not None:
            self.refused(attempt, attempt.refusal)
        else:
            attempt.phase = "waiting"

    def refused(self, attempt: ClusterAttempt, refusal: NotStarted) -> None:
        if attempt.stop:
            self.never_ran(attempt)
        else:
            del self.attempts[attempt.job]
            self.reports.append(refusal)

    def never_ran(self, attempt: ClusterAttempt) -> None:
        """Not in the cluster. An attempt of an earlier runner with another backend may have left a record."""
        del self.attempts[attempt.job]
        record = read_record(attempt.exit_record, attempt.attempt)
        self.reports.append(Ended(job=attempt.job, attempt=attempt.attempt, t=SYSTEM_CLOCK.wall(), record=record))

    def started(self, attempt: ClusterAttempt, t: float) -> None:
        """`t`: unix time."""
        if not attempt.started:
            attempt.started = True
            handle = {"cloud": self._cluster, "id": attempt.id, "name": attempt.names[0]}
            self.reports.append(Started(job=attempt.job, attempt=attempt.attempt, handle=handle, t=t))

    def ended(self, attempt: ClusterAttempt, state: JobState) -> None:
        """It is over; its record is on disk afterwards.

        The record that the job itself wrote, where it writes into this folder, says best how it succeeded or failed.
        """
        losses = self._losses[attempt.job] = self._losses.get(attempt.job, 0) + 1 if state == "lost" else 0
        seen = attempt.last_seen
        t = SYSTEM_CLOCK.wall() if seen.ended is None else seen.ended
        record = read_record(attempt.exit_record, attempt.attempt)
        fate: Fate | None = None
        cause: FailureCause | None = None
        if state in _OUTCOMES and not attempt.stop and not (record is not None and state == "failed"):
            fate, kind, what = _OUTCOMES[state]
            code = f", exit code {seen.exit_code}" if seen.exit_code else ""
            summary = f"{what} ({self._cluster}: {_words(seen, state)}{code})"
            cause = make_cause(kind, summary, f"{state}|{seen.state}{code}")
            fate = "failed" if losses > _MAX_LOSSES else fate
        if record is None:
            record = self._record(attempt, state, round(t, 3))
            attempt.note(f"{self._cluster}: {_words(seen, state)}")
            with contextlib.suppress(OSError):
                write_record(attempt.exit_record, record)
        self.started(attempt, t if seen.started is None else min(seen.started, t))
        del self.attempts[attempt.job]
        self.reports.append(Ended(job=attempt.job, attempt=attempt.attempt, t=t, record=record, fate=fate, cause=cause))

    def _record(self, attempt: ClusterAttempt, state: JobState, ended: float) -> dict[str, Any]:
        seen, killed = attempt.last_seen, attempt.stop and state != "succeeded"
        code = 0 if state == "succeeded" else seen.exit_code or None  # some say 0 where they know nothing
        return {
            "version": 1,
            "attempt": attempt.attempt,
            "exit_code": None if killed else code,
            "signal": int(signal.SIGTERM) if killed else None,
            "started": seen.started,
            "ended": ended,
            "cloud": self._cluster,
            "id": attempt.id,
            "state": seen.state,
        }


def _words(seen: ClusterJob, state: JobState) -> str:
    if not seen.state:
        return "it is not in the list any more" if state == "lost" else state
    return f"{seen.state}: {seen.details}" if seen.details else seen.state
