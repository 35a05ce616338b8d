"""What follows from events that are not written yet: done once they are."""

from __future__ import annotations

from sf_runner.backends.base import Backend, StopLevel
from sf_runner.basics.requests import Request, answer
from sf_runner.engine.scheduler import Start
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import Stopping


class Outbox:
    """Attempts to be started or told to end, and answers to other terminals."""

    def __init__(self, backend: Backend, grace_s: float) -> None:
        self._backend = backend
        self._grace_s = grace_s
        self._stops: dict[str, StopLevel] = {}
        self._answers: list[tuple[Request, str]] = []
        self.starts: list[Start] = []

    def stop(self, job: str, *, kill: bool) -> None:
        """The attempt of this job is to be told to end."""
        if kill or job not in self._stops:
            self._stops[job] = "kill" if kill else "terminate"

    def answer(self, request: Request, text: str) -> None:
        """Whoever asked is to be told."""
        self._answers.append((request, text))

    def send(self, state: RunState, trouble: str) -> None:
        """All but the starts. `trouble`: why events could not be written; empty when they are.

        An attempt that is told to end before that is written would count as failed if the runner were killed in
        between. With a full disk it is told all the same: nobody could end the run otherwise.
        """
        for job, level in self._stops.items():
            if isinstance(state.jobs[job].state, Stopping):
                self._backend.stop(job, level, self._grace_s)
        for request, text in self._answers:
            answer(request, f"{text} (not written down yet: {trouble})" if trouble else text)
        self._stops.clear()
        self._answers.clear()
