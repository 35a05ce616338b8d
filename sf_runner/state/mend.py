"""A journal that two runners wrote at the same time, because a file system did not keep the second one out. Pure.

Each wrote what it knew, so most lines make sense and some say again, or otherwise, what was said before: a job is
submitted twice, ends twice. Such lines are left out, but for one: whatever else was said of a job, if an attempt
succeeded, it has succeeded. Lines that contradict each other for another reason (a line was removed) say nothing of two
runners; such a journal stays refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from sf_runner.state import events as ev
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import ACTIVE, ENDED, Succeeded, Waiting


@dataclass(kw_only=True)
class Mender:
    """Folds events into `state`, leaving out what makes no sense there."""

    state: RunState = field(default_factory=RunState)
    left_out: list[int] = field(default_factory=list)
    """Numbers of lines that were left out, or of which a part was."""
    _repeated: bool = False
    """Whether something was said twice: two runners did it."""
    _headers: int = 0

    @property
    def of_two_writers(self) -> bool:
        """Whether the lines that were left out are explained by two runners at the same time."""
        return self._repeated and (len(self.state.runners) > 1 or self._headers > 1)

    def damaged(self, number: int) -> None:
        """Line `number` is no event: both may have written at the same place."""
        self.left_out.append(number)

    def apply(self, event: ev.Event, number: int) -> None:
        """Fold in line `number`."""
        before = len(self.left_out)
        for part in self._fitting(event, number):
            self.state.apply(part)
        del self.left_out[before + 1 :]

    def _again(self, number: int) -> tuple[ev.Event, ...]:
        self._repeated = True
        self.left_out.append(number)
        return ()

    def _gap(self, number: int) -> tuple[ev.Event, ...]:
        self.left_out.append(number)
        return ()

    def _fitting(self, event: ev.Event, number: int) -> tuple[ev.Event, ...]:
        """What of it makes sense now."""
        if isinstance(event, ev.JournalCreated):
            self._headers += 1
            return self._again(number) if self.state.run_id else (event,)
        if isinstance(event, ev.JobsPlanned):
            return self._planned(event, number)
        if isinstance(event, ev.JobsChanged):
            known = [entry for entry in event.jobs if entry["id"] in self.state.jobs]
            if len(known) == len(event.jobs):
                return (event,)
            return self._gap(number) + ((replace(event, jobs=known, line=None),) if known else ())
        job: Any = getattr(event, "job", "")
        if isinstance(event, ev.Note) or not job:
            return (event,)
        return self._of_job(event, number) if job in self.state.jobs else self._gap(number)

    def _planned(self, event: ev.JobsPlanned, number: int) -> tuple[ev.Event, ...]:
        new = [entry for entry in event.jobs if entry["id"] not in self.state.jobs]
        if len(new) == len(event.jobs):
            return (event,)
        return self._again(number) + ((replace(event, jobs=new, line=None),) if new else ())

    def _of_job(self, event: Any, number: int) -> tuple[ev.Event, ...]:
        record = self.state.jobs[event.job]
        state = record.state
        if isinstance(event, ev.AttemptSubmitted):
            if isinstance(state, Waiting) and event.attempt > record.attempts:
                return (event,)
            return self._again(number) if event.attempt <= record.attempts else self._gap(number)
        if isinstance(event, ev.StopRequested):
            return (event,) if isinstance(state, ACTIVE) and event.attempt == record.attempts else self._again(number)
        if isinstance(event, ev.JobCancelled):
            return (event,) if isinstance(state, Waiting) else self._again(number)
        if isinstance(event, ev.JobRequeued):
            return (event,) if isinstance(state, ENDED) else self._again(number)
        return self._ended(event, number) if isinstance(event, ev.AttemptEnded) else (event,)

    def _ended(self, event: ev.AttemptEnded, number: int) -> tuple[ev.Event, ...]:
        record = self.state.jobs[event.job]
        state = record.state
        if isinstance(state, ACTIVE) and event.attempt == record.attempts:
            return (event,)
        nothing = self._again(number) if event.attempt <= record.attempts else self._gap(number)
        if event.verdict != "succeeded" or isinstance(state, (*ACTIVE, Succeeded)):
            return nothing
        attempt = max(event.attempt, record.attempts)
        again = () if isinstance(state, Waiting) else (ev.JobRequeued(t=event.t, job=event.job),)
        submitted = ev.AttemptSubmitted(t=event.t, job=event.job, attempt=attempt, placement={})
        return (*again, submitted, replace(event, attempt=attempt))

    def note(self, path: object) -> ev.Note:
        """What a person is told of it."""
        what = f"{len(self.left_out)} line(s) of {path}, the first is line {self.left_out[0]}"
        text = f"two runners wrote the journal at the same time: {what}, contradict the others and are left out"
        return ev.Note(t=self.state.last_event_at, text=text)
