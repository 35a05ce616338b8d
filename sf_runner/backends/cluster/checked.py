"""A user's `Cluster` behind a check of everything that it returns.

Whatever the class does wrong becomes an AnswerError that names the method. Nothing unchecked reaches the backend: an id
of another type, or a state that is none, would make a job that runs look as if it were gone, and it would run twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any, get_args

from sf_runner.backends.cluster.answers import AnswerError, ClusterJob
from sf_runner.backends.cluster.api import Cluster, JobState, SubmitRequest
from sf_runner.basics.errors import did_you_mean, one_line

_NEEDED = ("running", "succeeded", "failed")


_NUMBERS = ("poll_s", "settle_s", "call_timeout_s", "retry_s", "parallel_calls")


def fault_of(cluster: Cluster) -> str:
    """What is wrong with what a cluster says once and for all: `attribute: what`; empty when nothing is."""
    if fault := _states_fault(cluster.states):
        return f"states: {fault}"
    for name in _NUMBERS:
        value = getattr(cluster, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value <= 0:
            return f"{name}: {value!r} is no number above 0"
    if not isinstance(cluster.parallel_calls, int):
        return f"parallel_calls: {cluster.parallel_calls!r} is no whole number"
    try:
        re.compile(cluster.transient)
    except (re.error, TypeError) as exc:
        return f"transient: {cluster.transient!r} is no regular expression: {exc}"
    return ""


def _states_fault(states: Any) -> str:
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
        self.states = {str(word): state for word, state in cluster.states.items()}
        self.transient = re.compile(cluster.transient)
        self.poll_s, self.settle_s, self.retry_s = cluster.poll_s, cluster.settle_s, cluster.retry_s
        self.parallel_calls, self.kills_together = cluster.parallel_calls, cluster.kills_together

    def submit(self, job: SubmitRequest) -> tuple[str, ...]:
        return self._command("submit", self._call("submit", job))

    def list(self, prefix: str, days: int) -> tuple[str, ...]:
        return self._command("list", self._call("list", prefix, days))

    def info(self, job_id: str) -> tuple[str, ...] | None:
        answer = self._call("info", job_id)
        return None if answer is None else self._command("info", answer)

    def kill(self, job_ids: Sequence[str]) -> tuple[str, ...]:
        return self._command("kill", self._call("kill", job_ids))

    def read_id(self, output: str) -> str:
        return self._id("read_id", self._call("read_id", output))

    def read_jobs(self, output: str) -> Sequence[ClusterJob]:
        """Ids, names and states are text: an id equals the one that was written down by an earlier runner."""
        jobs = self._call("read_jobs", output)
        for job in jobs:
            if not isinstance(job, ClusterJob):
                raise self._fault("read_jobs", f"returned {job!r}, which is no ClusterJob")
            for name in ("exit_code", "started", "ended"):
                value = getattr(job, name)
                if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                    raise self._fault("read_jobs", f"returned a job whose {name} is {value!r}, which is no number")
        return [
            replace(
                job,
                id=self._id("read_jobs", job.id),
                name=str(job.name),
                state=str(job.state),
                details=one_line(job.details or ""),
            )
            for job in jobs
        ]

    def _command(self, method: str, answer: Any) -> tuple[str, ...]:
        if isinstance(answer, str) or not isinstance(answer, Sequence) or not answer:
            raise self._fault(method, f"returned {answer!r}; it has to be a list of words")
        odd = [word for word in answer if not isinstance(word, str)]
        if odd:
            raise self._fault(method, f"returned the word {odd[0]!r}, which is no text")
        return tuple(answer)

    def _id(self, method: str, answer: Any) -> str:
        if isinstance(answer, bool) or not isinstance(answer, str | int) or not str(answer).strip():
            raise self._fault(method, f"found no job id, but {answer!r}")
        return str(answer).strip()

    def _call(self, method: str, *args: Any) -> Any:
        try:
            answer = getattr(self._cluster, method)(*args)
            return [*answer] if method == "read_jobs" else answer  # a generator may fail, too
        except AnswerError:
            raise
        except Exception as exc:  # whatever a user's class does must not end the run
            raise self._fault(method, f"failed: {one_line(f'{type(exc).__name__}: {exc}')}") from exc

    def _fault(self, method: str, what: str) -> AnswerError:
        return AnswerError(f"{type(self._cluster).__name__}.{method} {what}")
