"""What a class has to say about a cluster that is driven by its command line. docs/backends.md shows how to write one.

The methods return commands and read what these print; they run nothing and wait for nothing. Everything else is the
backend's (`backend.py`): submitting once, finding jobs by name after a crash, waiting ever longer while the cluster
does not answer, queueing again what was lost or preempted, logs and exit records.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sf_runner.backends.cluster.answers import ClusterJob
from sf_runner.basics.digest import digest

JobState = Literal["queued", "running", "succeeded", "failed", "timeout", "cancelled", "preempted", "lost"]
"""preempted, lost: submitted again as the next attempt, once it is certain that the job does not run any more."""

TRANSIENT = re.compile(
    r"timed?.?out|connection|temporar|unavailable|too many requests|rate.?limit|try again|name resolution|network"
    r"|internal server error|bad gateway|(error|http|status|code|response)\W{0,3}(429|500|502|503|504)\b",
    re.IGNORECASE,
)


_NAME_CHARS = 63
"""What every cluster accepts (a DNS label)."""
_HASH_CHARS = 8


def run_prefix(run_id: str) -> str:
    """How the names of all jobs of a run begin; equal in `name` and `dns_name`."""
    return "sf" + "".join(char for char in run_id.lower() if char.isalnum())[:_HASH_CHARS]


def job_names(run_id: str, job: str, attempt: int) -> tuple[str, str]:
    """(name, dns_name) of an attempt: unique to it, at most 63 characters. The first is of letters, digits, `_.-`, the
    second a DNS label: small letters, digits and `-`."""
    prefix, own = run_prefix(run_id), digest((run_id, job, str(attempt)), size=_HASH_CHARS // 2)
    middle = job.rpartition("/")[2]
    room = _NAME_CHARS - len(prefix) - len(own) - 2
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", middle)[:room].strip("-.") or "job"
    dns = re.sub(r"[^a-z0-9]+", "-", middle.lower())[:room].strip("-") or "job"
    return f"{prefix}-{readable}-{own}", f"{prefix}-{dns}-{own}"


@dataclass(frozen=True, kw_only=True)
class SubmitRequest:
    """One attempt to be submitted.

    argv: the experiment's command, its variables before it (`env A=1 python ...`).
    log: path of the attempt's log on this machine, for clusters that share its files.
    """

    run_id: str
    run: str
    job: str
    attempt: int
    argv: Sequence[str]
    log: str

    @property
    def name(self) -> str:
        """A name that only this attempt has: letters, digits, `_.-`, at most 63. The job must be submitted under it."""
        return job_names(self.run_id, self.job, self.attempt)[0]

    @property
    def dns_name(self) -> str:
        """The same for clusters that want small letters, digits and `-` only."""
        return job_names(self.run_id, self.job, self.attempt)[1]

    @property
    def run_prefix(self) -> str:
        """How the names of all jobs of this run begin."""
        return run_prefix(self.run_id)

    @property
    def command(self) -> str:
        """`argv` as one text, quoted for a shell."""
        return shlex.join(self.argv)


class Cluster:
    """Base class. `--runner=my_package.my_module:MyCluster` makes one object of the subclass, without arguments.

    name: what messages call it.
    states: the cluster's words for the states of a job -> ours. Jobs in other states are waited for.
    poll_s: time between two lists. settle_s: after so long a list shows a job that was submitted.
    call_timeout_s: a command that takes longer is killed. retry_s: first pause after an error, doubled up to 5 minutes.
    parallel_calls: submissions at a time. kills_together: one kill command takes many ids.
    transient: matches messages of errors that pass by themselves.
    shares_files: jobs see this machine's files and run its Python in its current directory. Otherwise the command is
    the description's own, and `python` is that of the container.
    """

    name = "the cluster"
    states: Mapping[str, JobState] = {}
    poll_s = 15.0
    settle_s = 20.0
    call_timeout_s = 120.0
    retry_s = 5.0
    parallel_calls = 4
    kills_together = False
    transient: str | re.Pattern[str] = TRANSIENT
    shares_files = False

    def submit(self, job: SubmitRequest) -> Sequence[str]:
        """The command that submits one job."""
        raise NotImplementedError

    def read_id(self, output: str) -> str:
        """The job's id in what `submit` printed. AnswerError (or any ValueError) when there is none."""
        raise NotImplementedError

    def list(self, prefix: str, days: int) -> Sequence[str]:
        """The command that lists jobs; those whose name begins with `prefix`, of the last `days`, are enough."""
        raise NotImplementedError

    def info(self, job_id: str) -> Sequence[str] | None:
        """The command that asks for one job that the list does not show; None: there is no such command."""
        return None

    def read_jobs(self, output: str) -> Sequence[ClusterJob]:
        """The jobs in what `list` or `info` printed. AnswerError (or any ValueError) when it is no such answer."""
        raise NotImplementedError

    def kill(self, job_ids: Sequence[str]) -> Sequence[str]:
        """The command that ends these jobs; a single one unless `kills_together`."""
        raise NotImplementedError


REQUIRED = ("submit", "read_id", "list", "read_jobs", "kill")
