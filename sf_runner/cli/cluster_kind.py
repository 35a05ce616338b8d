"""Clusters that are driven by their command line, for the commands: `--runner=ngc` and classes of users."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sf_runner.backends.base import Launch
from sf_runner.backends.cluster.answers import AnswerError
from sf_runner.backends.cluster.api import Cluster, SubmitRequest
from sf_runner.backends.cluster.backend import ClusterBackend
from sf_runner.backends.cluster.checked import CheckedCluster
from sf_runner.backends.cluster.ids import IdFile
from sf_runner.basics.errors import UsageError
from sf_runner.basics.paths import RunPaths, attempt_files
from sf_runner.cli.kind import BackendContext
from sf_runner.cli.options import RunOptions
from sf_runner.cli.slots import SlotChoice
from sf_runner.describe.plan import Plan
from sf_runner.engine.reconcile import slot_requests
from sf_runner.slots.cores import read_topology
from sf_runner.slots.devices import GpuSnapshot
from sf_runner.slots.table import SlotSetup
from sf_runner.slots.types import SlotPolicy, SlotRequest
from sf_runner.state.fold import RunState

_HERE_ONLY = (
    "num_gpus", "experiments_per_gpu", "gpus", "gpu_exclude_busy", "gpu_memory_per_experiment", "cpus_per_experiment",
)  # fmt: skip
"""Flags about the GPUs and cores of this machine."""
_PROGRESS_VARIABLE = "SF_RUNNER_PROGRESS_FILE"


class ClusterKind:
    """`cluster`: describes the cluster. `said_in`: where a user says what a job gets."""

    local = False
    queues = True
    hands_over_all = False  # only the runner counts how many are submitted

    def __init__(self, name: str, cluster: Cluster, said_in: str) -> None:
        self.name = name
        self._said_in = said_in
        self._cluster = cluster

    def cluster(self, options: RunOptions) -> Cluster:
        """The cluster that these flags describe. UsageError in one line where they do not."""
        return self._cluster

    def check(self, options: RunOptions, plan: Plan) -> None:
        for name in _HERE_ONLY:
            if getattr(options, name):
                raise UsageError(f"--{name} is about this machine; what a job gets is said in {self._said_in}")
        cluster = self.cluster(options)
        if not (options.dry_run or options.print_only):
            checked = CheckedCluster(cluster)
            try:
                self.check_programs(cluster, checked.list("sf", 1), checked.kill(["1"]))
            except AnswerError as exc:
                raise UsageError(f"--runner={self.name}: {exc}; see docs/backends.md") from exc

    def check_programs(self, cluster: Cluster, *commands: Sequence[str]) -> None:
        """UsageError when the program of a command is not installed."""
        for command in commands:
            if command and shutil.which(command[0]) is None:
                raise UsageError(
                    f"--runner={self.name} needs the program '{command[0]}', which is not on PATH; install the command "
                    f"line of {cluster.name}"
                )

    def choose_slots(self, options: RunOptions, plan: Plan) -> SlotChoice:
        """The cluster says what a job gets; as many as there are unless somebody wants fewer."""
        setup = SlotSetup(policy=SlotPolicy(num_gpus=0, experiments_per_gpu=-1), topology=read_topology())
        parallel = options.max_parallel or plan.defaults.max_parallel or max(1, len(plan.jobs))
        return SlotChoice(setup=setup, probe=None, snapshot=GpuSnapshot(), max_parallel=parallel)

    def slot_requests(self, plan: Plan) -> Mapping[str, SlotRequest]:
        return {shape: SlotRequest() for shape in slot_requests(plan)}

    def make(self, context: BackendContext) -> ClusterBackend:
        cluster, state = self.cluster(context.options), context.state
        requests = Requests(context, state.run_id, cluster)
        return _backend(cluster, requests, context.plan.paths, state)

    def reopen(self, paths: RunPaths, state: RunState) -> ClusterBackend:
        return _backend(self._cluster, _none, paths, state)

    def preview(self, context: BackendContext, launches: Sequence[Launch]) -> Iterator[tuple[str, str]]:
        raise UsageError(f"--runner={self.name} cannot show what it would submit; --dry_run shows what it would start")


def _backend(cluster: Cluster, requests: Any, paths: RunPaths, state: RunState) -> ClusterBackend:
    ids = IdFile(paths.cluster_ids, cluster.name)
    return ClusterBackend(state.run_id, cluster, requests, ids, since=state.first_opened_at)


def _none(launch: Launch) -> SubmitRequest:
    raise AssertionError(f"'{launch.job}' is submitted while the run is being ended")


class Requests:
    """From a launch to what the cluster is asked to submit."""

    def __init__(self, context: BackendContext, run_id: str, cluster: Cluster) -> None:
        plan, options = context.plan, context.options
        self._run_id, self._run = run_id, plan.run_name
        self._argvs = {job.job_id: job.argv for job in plan.jobs}
        self._shares_files = cluster.shares_files
        train_dir = options.ngc.train_dir or options.train_dir
        self._root = f"{train_dir.rstrip('/')}/{plan.run_name}"
        """The run's folder as jobs see it."""

    def __call__(self, launch: Launch) -> SubmitRequest:
        return SubmitRequest(
            run_id=self._run_id,
            run=self._run,
            job=launch.job,
            attempt=launch.attempt,
            argv=self._argv(launch),
            log=launch.log,
        )

    def _argv(self, launch: Launch) -> list[str]:
        """What a job is to run: the experiment's command, its variables before it."""
        if self._shares_files:
            variables = [f"{name}={value}" for name, value in launch.env.items()]
            return ["env", f"--chdir={Path.cwd()}", *variables, *launch.argv]
        progress = attempt_files(self._root, launch.job, launch.attempt)[2]
        # Whether output is buffered here says nothing about the container.
        env = {"PYTHONUNBUFFERED": "1", **launch.env, _PROGRESS_VARIABLE: progress}
        return ["env", *(f"{name}={value}" for name, value in env.items()), *self._argvs[launch.job]]
