"""NVIDIA NGC: its commands, its answers, its words for the states of a job. Submitting is the template's affair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from sf_runner.backends.cluster.answers import ClusterJob, json_id, json_jobs
from sf_runner.backends.cluster.api import Cluster, JobState, SubmitRequest
from sf_runner.backends.cluster.template import Template

_WORDS: Mapping[JobState, str] = {
    "queued": "CREATED QUEUED STARTING REQUESTING_RESOURCE RESOURCE_CONSUMPTION_REQUEST_IN_PROGRESS RESOURCE_GRANTED "
    "PENDING_STORAGE_CREATION",
    "running": "RUNNING PENDING_TERMINATION",
    "succeeded": "FINISHED_SUCCESS",
    "failed": "FAILED RESOURCE_LIMIT_EXCEEDED RESOURCE_GRANT_DENIED INFINITY_POOL_MISSING",
    "timeout": "FAILED_RUN_LIMIT_EXCEEDED",
    "cancelled": "KILLED_BY_USER KILLED_BY_ADMIN CANCELED",
    "preempted": "PREEMPTED PREEMPTED_BY_ADMIN",
    "lost": "TASK_LOST KILLED_BY_SYSTEM IM_INTERNAL_ERROR RESOURCE_RELEASED UNKNOWN",
}


class Ngc(Cluster):
    """`template`: the command that submits one job; None where nothing is submitted."""

    name = "NGC"
    states = MappingProxyType({word: state for state, words in _WORDS.items() for word in words.split()})
    kills_together = True

    def __init__(self, template: Template | None = None, poll_s: float | None = None) -> None:
        self.template = template
        if poll_s is not None:
            self.poll_s = poll_s

    def submit(self, job: SubmitRequest) -> Sequence[str]:
        assert self.template is not None, f"'{job.job}' is submitted while the run is being ended"
        return self.template.render(job)

    def read_id(self, output: str) -> str:
        return json_id(output, "id")

    def list(self, prefix: str, days: int) -> Sequence[str]:
        return ("ngc", "batch", "list", "--format_type", "json", "--duration", f"{days}D")

    def info(self, job_id: str) -> Sequence[str]:
        return ("ngc", "batch", "info", job_id, "--format_type", "json")

    def read_jobs(self, output: str) -> Sequence[ClusterJob]:
        return json_jobs(
            output,
            id="id",
            name="jobDefinition.name",
            state="jobStatus.status",
            details="jobStatus.statusDetails",
            exit_code="jobStatus.exitCode",
            started="jobStatus.startedAt",
            ended="jobStatus.endedAt",
        )

    def kill(self, job_ids: Sequence[str]) -> Sequence[str]:
        return ("ngc", "batch", "kill", ",".join(job_ids))
