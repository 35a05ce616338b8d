"""A user's `Cluster` behind a check of everything that it returns.

Whatever the class does wrong becomes an AnswerError that names the method. Nothing unchecked reaches the backend: an id
of another type, or a state that is none, would make a job that runs look as if it were gone, and it would run twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from sf_runner.backends.cluster.answers import AnswerError, ClusterJob
from sf_runner.backends.cluster.api import Cluster, JobState, SubmitRequest
from sf_runner.basics.errors import did_you_mean, one_line

_NEEDED = ("running", "succeeded", "failed")


def states_fault(states: Any) -> str:
    """What is wrong with a table of states, in words; empty when nothing is."""
    if not isinstance(states, Mapping):
        return f"it is no mapping but {type(states).__name__}"
    known = get_args(JobState)
    for word, state in states.items():
        if state not in known:
            return f"'{word}' is '{state}', which is no state of a job.{did_you_mean(str(state), known)}".rstrip(".")
    missing = [state for state in _NEEDED if state not in states.values()]
    return f"no word of the cluster means {missing[0]}" if missing else ""


class CheckedCluster:
    """What the backend asks of a cluster. Every method raises nothing but AnswerError."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.name = cluster.name
        self.states: Mapping[str, JobState] = cluster.states
        self.poll_s, self.settle_s, self.retry_s = cluster.poll_s, cluster.settle_s, cluster.retry_s
        self.call_timeout_s, self.parallel_calls = cluster.call_timeout_s, cluster.parallel_calls
        self.kills_together = cluster.kills_together
        self.transient: re.Pattern[str] = cluster.transient

    def submit(self, job: SubmitRequest) -> tuple[str, ...]:
        return self._command("submit", lambda: self._cluster.submit(job))

    def list(self, prefix: str, days: int) -> tuple[str, ...]:
        return self._command("list", lambda: self._cluster.list(prefix, days))

    def info(self, job_id: str) -> tuple[str, ...] | None:
        answer = self._call("info", lambda: self._cluster.info(job_id))
        return None if answer is None else self._command("info", lambda: answer)

    def kill(self, job_ids: Sequence[str]) -> tuple[str, ...]:
        return self._command("kill", lambda: self._cluster.kill(job_ids))

    def read_id(self, output: str) -> str:
        return self._id("read_id", self._call("read_id", lambda: self._cluster.read_id(output)))

    def read_jobs(self, output: str) -> Sequence[ClusterJob]:
        """Ids are text, so that they equal those that were written down by an earlier runner."""
        answer = self._call("read_jobs", lambda: [*self._cluster.read_jobs(output)])
        for job in answer:
            if not isinstance(job, ClusterJob):
                raise AnswerError(f"{self._where('read_jobs')} returned {job!r}, which is no ClusterJob")
        return [
            ClusterJob(**{**vars(job), "id": self._id("read_jobs", job.id), "name": str(job.name)}) for job in answer
        ]

    def _command(self, method: str, ask: Callable[[], Any]) -> tuple[str, ...]:
        answer = self._call(method, ask)
        if isinstance(answer, str) or not isinstance(answer, Sequence) or not answer:
            raise AnswerError(f"{self._where(method)} returned {answer!r}; it has to be a list of words")
        odd = [word for word in answer if not isinstance(word, str)]
        if odd:
            raise AnswerError(f"{self._where(method)} returned the word {odd[0]!r}, which is no text")
        return tuple(answer)

    def _id(self, method: str, answer: Any) -> str:
        if isinstance(answer, bool) or not isinstance(answer, str | int) or not str(answer).strip():
            raise AnswerError(f"{self._where(method)} found no job id, but {answer!r}")
        return str(answer).strip()

    def _call(self, method: str, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except AnswerError:
            raise
        except Exception as exc:  # whatever a user's class does must not end the run
            raise AnswerError(f"{self._where(method)} failed: {one_line(f'{type(exc).__name__}: {exc}')}") from exc

    def _where(self, method: str) -> str:
        return f"{type(self._cluster).__name__}.{method}"
