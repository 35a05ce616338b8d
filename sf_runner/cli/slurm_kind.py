"""`--runner=slurm` for the commands: from its flags to a backend, and what it would submit."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile

from sf_runner.backends.base import Launch
from sf_runner.backends.slurm import task
from sf_runner.backends.slurm.backend import SlurmBackend
from sf_runner.backends.slurm.client import SlurmClient, SlurmDownError, is_here
from sf_runner.backends.slurm.environment import cluster_in_environment, cluster_in_script
from sf_runner.backends.slurm.packing import SubmitSettings
from sf_runner.backends.slurm.refusals import Refusal
from sf_runner.backends.slurm.script import (
    JobShape,
    ScriptSettings,
    check_settings,
    passed_on,
    read_template,
    render_script,
)
from sf_runner.backends.slurm.time_limit import TimeLimit, limit_s
from sf_runner.basics.errors import BackendError, UsageError
from sf_runner.basics.paths import RunPaths
from sf_runner.cli.kind import BackendContext, QueueKind
from sf_runner.cli.options import RunOptions
from sf_runner.describe.description import Resources
from sf_runner.describe.plan import Plan
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import Waiting

_SHORT_S = 600.0


class SlurmKind(QueueKind):
    name = "slurm"
    records = True
    hands_over_all = True

    def check(self, options: RunOptions, plan: Plan) -> None:
        self.refuse_flags_of_this_machine(
            options,
            "on Slurm use --slurm_gpus_per_job, --slurm_cpus_per_gpu, --slurm_experiments_per_job and "
            "--slurm_side_by_side",
        )
        limit = limit_s(options.slurm.time) if options.slurm.time else None
        if limit is not None and options.slurm.signal_ahead is not None and limit <= options.slurm.signal_ahead:
            raise UsageError(
                f"--slurm_signal_ahead={options.slurm.signal_ahead:g}: jobs of --slurm_time={options.slurm.time} would "
                "be told to end as soon as they start; lower it"
            )
        needs = dict.fromkeys(job.resources for job in plan.jobs)
        shapes = dict.fromkeys(job_shape(options, each) for each in needs)
        check_settings(script_settings(options, plan), shapes)
        if not options.print_only and not options.dry_run and not is_here():
            raise UsageError(
                "--runner=slurm: sbatch was not found here; start this on a login node of the cluster "
                "(--slurm_print_only shows what would be submitted)"
            )

    def make(self, context: BackendContext) -> SlurmBackend:
        options, plan = context.options, context.plan
        settings = submit_settings(options, plan, context.state.run_id)
        client = SlurmClient(cluster=settings.script.cluster)
        remarks: list[str] = []
        with suppress(SlurmDownError):  # told once something is to be submitted
            settings = with_limit(settings, options, client)
            remarks = [*self._try_out(settings, context, client), *_short_limit(settings.script, options)]
        return SlurmBackend(plan.paths.slurm_dir, settings, poll_s=options.slurm.poll, client=client, remarks=remarks)

    def reopen(self, paths: RunPaths, state: RunState) -> SlurmBackend:
        if not is_here():
            raise BackendError(
                f"run '{paths.run_name}' has experiments in Slurm, and its commands were not found here; "
                "go to a login node of the cluster"
            )
        return SlurmBackend(paths.slurm_dir, None, poll_s=1.0)

    def preview(self, context: BackendContext, launches: Sequence[Launch]) -> Iterator[tuple[str, str]]:
        options, plan = context.options, context.plan
        settings = submit_settings(options, plan, context.state.run_id)
        if is_here():
            with suppress(SlurmDownError):
                settings = with_limit(settings, options, SlurmClient(cluster=settings.script.cluster))
        backend = SlurmBackend(plan.paths.slurm_dir, settings)
        try:
            for draft in backend.drafts(launches):
                count = sum(map(len, draft.tasks))
                what = f"{draft.paths.script}: {count} experiments in {len(draft.tasks)} tasks of an array"
                yield what, draft.script
        finally:
            backend.close(detach=False)

    def _try_out(self, settings: SubmitSettings, context: BackendContext, client: SlurmClient) -> list[str]:
        """Have sbatch look at a script of each shape before anything is written down as submitted; what to tell.

        UsageError where the flags are at fault. Whatever may pass is only told, and nothing keeps a runner from coming
        back to experiments that are in Slurm already.
        """
        told: list[str] = []
        waiting = [job.job_id for job in context.plan.jobs if _is_to_run(context.state, job.job_id)]
        for shape in dict.fromkeys(map(settings.shape_of, waiting)):
            batch = str(context.plan.paths.slurm_dir.absolute() / "try_out")
            refusal = client.test_text(render_script(settings.script, shape, batch=batch, num_tasks=1, throttle=0))
            if refusal is None or refusal.kind == "limit":  # of which there is more to say once it is submitted
                continue
            if refusal.kind == "down":
                break  # told when it is to be submitted
            if refusal.kind != "permanent":
                told.append(
                    f"Slurm could not start them as things are: {refusal.line}; they are submitted all the same"
                )
            elif context.state.active:
                told.append(f"Slurm would not take further experiments: {refusal.line}; look at the --slurm_ flags")
            else:
                raise UsageError(f"Slurm would not take the experiments: {refusal.text}; look at {_flags(refusal)}")
        return list(dict.fromkeys(told))


def _is_to_run(state: RunState, job: str) -> bool:
    record = state.jobs.get(job)
    return record is None or isinstance(record.state, Waiting)


def _flags(refusal: Refusal) -> str:
    return refusal.remedy if refusal.remedy.startswith("--") else f"the --slurm_ flags ({refusal.remedy})"


def with_limit(settings: SubmitSettings, options: RunOptions, client: SlurmClient) -> SubmitSettings:
    """With the time limit that jobs will have, as far as Slurm knows. SlurmDownError when nobody answers."""
    if options.slurm.time is not None:
        return settings  # known already
    partition = options.slurm.partition or os.environ.get("SBATCH_PARTITION", "")
    limit = client.time_limit(partition, options.slurm.qos or os.environ.get("SBATCH_QOS", ""))
    return replace(settings, script=replace(settings.script, limit=limit))


def _short_limit(script: ScriptSettings, options: RunOptions) -> list[str]:
    """What to tell of a limit that nobody asked for and that leaves little time."""
    limit = script.limit
    if options.slurm.time is not None or limit is None or limit.seconds is None or limit.seconds > _SHORT_S:
        return []
    return [
        f"jobs end after {limit.seconds / 60:g} min, the limit of {limit.source} (--slurm_time asks for another one); "
        f"experiments are told to save {script.ahead_s:.0f} s before"
    ]


def submit_settings(options: RunOptions, plan: Plan, run_id: str) -> SubmitSettings:
    jobs = plan.by_id()
    return SubmitSettings(
        script=script_settings(options, plan),
        shape_of=lambda job: job_shape(options, jobs[job].resources),
        run_id=run_id,
        max_parallel=options.max_parallel or plan.defaults.max_parallel,  # None: as many as Slurm runs
        grace_s=options.grace,
        max_requeues=options.slurm.max_requeues,
        experiments_per_task=options.slurm.experiments_per_job,
    )


def script_settings(options: RunOptions, plan: Plan) -> ScriptSettings:
    """UsageError when the template cannot be read."""
    slurm = options.slurm
    given = {name: getattr(slurm, name) for name in ("partition", "account", "qos", "constraint", "time", "mem")}
    folder = None
    if slurm.workdir:
        folder = str(Path(slurm.workdir).absolute())
        if not options.print_only and not options.dry_run:
            try:
                Path(folder).mkdir(parents=True, exist_ok=True)
                with TemporaryFile(dir=folder):
                    pass
            except OSError as exc:
                raise UsageError(f"--slurm_workdir={slurm.workdir} cannot be written: {exc.strerror}") from None
    template = read_template(slurm.sbatch_template) if slurm.sbatch_template else None
    return ScriptSettings(
        job_name=plan.run_name,
        folder=os.getcwd(),  # noqa: PTH109
        command=[sys.executable, str(Path(task.__file__).absolute())],
        options={name: value for name, value in given.items() if value is not None},
        passed_on=slurm.args,
        signal_ahead_s=slurm.signal_ahead,
        limit=TimeLimit(seconds=limit_s(slurm.time), source="--slurm_time") if slurm.time else None,
        timeout_s=slurm.timeout,
        template=template,
        cluster=chosen_cluster(slurm.args, template or "", os.environ),
        output_folder=folder,
    )


def chosen_cluster(args: Sequence[str], template: str, environ: Mapping[str, str]) -> str:
    """Where jobs are to be submitted, in the order in which sbatch would believe it; empty: this machine's own cluster.
    UsageError where it is left to sbatch: the runner has to know where to ask for its jobs."""
    passed = passed_on(args, {}).get("clusters")
    in_environment, variable = cluster_in_environment(environ)
    if passed:
        name, source = str(passed), "--slurm_args"
    elif in_environment:
        name, source = in_environment, variable
    else:
        name, source = cluster_in_script(template), "--slurm_sbatch_template"
    if "," in name or name == "all":
        raise UsageError(f"{source}: clusters '{name}': name one, so that the runner knows where its jobs are")
    return name


def job_shape(options: RunOptions, needs: Resources) -> JobShape:
    """What a job asks for that runs experiments with these needs, `side_by_side` of them side by side."""
    slurm = options.slurm
    gpus = slurm.gpus_per_job
    side_by_side = slurm.side_by_side or (max(1, gpus) if needs.gpus is None and needs.cpus is None else 1)
    side_by_side = min(side_by_side, slurm.experiments_per_job)
    if needs.gpus is not None:
        gpus = needs.gpus * side_by_side
    cpus = slurm.cpus_per_job
    if cpus is None and slurm.cpus_per_gpu is not None:
        cpus = slurm.cpus_per_gpu * max(1, gpus)
    if needs.cpus is not None:
        cpus = needs.cpus * side_by_side
    return JobShape(gpus=gpus, cpus=cpus, experiments=slurm.experiments_per_job, side_by_side=side_by_side)
