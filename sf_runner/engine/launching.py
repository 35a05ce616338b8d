"""From a job and its placement to the request that a backend carries out."""

from __future__ import annotations

import os
from collections.abc import Mapping

from sf_runner.backends.base import Known, Launch
from sf_runner.basics.paths import JobPaths, RunPaths, attempt_files
from sf_runner.describe.command import runtime_argv
from sf_runner.describe.plan import Job
from sf_runner.slots.placement import Placement
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import JobRecord, running_of


class LaunchBuilder:
    """Fixes argv, environment and files of every attempt of a run."""

    def __init__(self, run_paths: RunPaths) -> None:
        self.run_paths = run_paths
        self._root = os.path.abspath(run_paths.root)  # noqa: PTH100  as text: the fast way
        self._run = {"SF_RUNNER_RUN": run_paths.run_name}
        # Python programs show their output as it comes, not when a buffer is full; the user's own choice wins.
        self._defaults = {} if "PYTHONUNBUFFERED" in os.environ else {"PYTHONUNBUFFERED": "1"}

    def paths(self, record: JobRecord) -> JobPaths:
        return self.run_paths.job(record.job_id)

    def launch(self, job: Job, record: JobRecord, placement: Placement) -> Launch:
        """The next attempt of `job`; `record` already counts it."""
        log, exit_record, _ = attempt_files(self._root, job.job_id, record.attempts)
        return Launch(
            job=job.job_id,
            attempt=record.attempts,
            argv=runtime_argv(job.argv),
            env=self.environment(job, record.attempts, placement),
            placement=placement,
            log=log,
            exit_record=exit_record,
        )

    def environment(self, job: Job, attempt: int, placement: Placement) -> Mapping[str, str]:
        """What is added to the runner's environment. The description's own `env_vars` win over the placement's."""
        return {
            **self._defaults,
            **placement.env,
            **job.env,
            **self._run,
            "SF_RUNNER_JOB": job.job_id,
            "SF_RUNNER_ATTEMPT": str(attempt),
            "SF_RUNNER_PROGRESS_FILE": attempt_files(self._root, job.job_id, attempt)[2],
        }


def known_attempts(state: RunState, paths: RunPaths) -> list[Known]:
    """Attempts that the journal believes to hold a slot."""
    known = []
    for job, record in state.active.items():
        running = running_of(record.state)
        known.append(
            Known(
                job=job,
                attempt=record.attempts,
                handle=running.handle if running is not None else None,
                log=str(paths.job(job).attempt_log(record.attempts).absolute()),
                exit_record=str(paths.job(job).exit_record.absolute()),
            )
        )
    return known
