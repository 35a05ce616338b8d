"""From a job and its placement to the request that a backend carries out."""

from __future__ import annotations

import os
from collections.abc import Mapping

from sf_runner.backends.base import Launch
from sf_runner.command import runtime_argv
from sf_runner.job_state import JobRecord
from sf_runner.paths import JobPaths, RunPaths
from sf_runner.placement import Placement
from sf_runner.plan import Job


class LaunchBuilder:
    """Fixes argv, environment and files of every attempt of a run."""

    def __init__(self, run_paths: RunPaths) -> None:
        self.run_paths = run_paths
        # Python programs show their output as it comes, not when a buffer is full; the user's own choice wins.
        self._defaults = {} if "PYTHONUNBUFFERED" in os.environ else {"PYTHONUNBUFFERED": "1"}

    def paths(self, record: JobRecord) -> JobPaths:
        return self.run_paths.job(record.job_id)

    def launch(self, job: Job, record: JobRecord, placement: Placement) -> Launch:
        """The next attempt of `job`; `record` already counts it."""
        log, exit_record, progress = self.run_paths.attempt_files(job.job_id, record.attempts)
        return Launch(
            job=job.job_id,
            attempt=record.attempts,
            argv=runtime_argv(job.argv),
            env=self.environment(job, record.attempts, placement, progress),
            placement=placement,
            log=log,
            exit_record=exit_record,
        )

    def environment(self, job: Job, attempt: int, placement: Placement, progress: str) -> Mapping[str, str]:
        """What is added to the runner's environment. The description's own `env_vars` win over the placement's."""
        return {
            **self._defaults,
            **placement.env,
            **job.env,
            "SF_RUNNER_RUN": self.run_paths.run_name,
            "SF_RUNNER_JOB": job.job_id,
            "SF_RUNNER_ATTEMPT": str(attempt),
            "SF_RUNNER_PROGRESS_FILE": progress,
        }
