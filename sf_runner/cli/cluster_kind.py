"""Clusters that are driven by their command line, for the commands: `--runner=ngc` and classes of users."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from sf_runner.backends.base import Launch
from sf_runner.backends.cluster.answers import AnswerError
from sf_runner.backends.cluster.api import Cluster, SubmitRequest
from sf_runner.backends.cluster.backend import ClusterBackend
from sf_runner.backends.cluster.checked import CheckedCluster
from sf_runner.backends.cluster.ids import IdFile
from sf_runner.backends.cluster.ngc import Ngc
from sf_runner.backends.cluster.template import Template, check_job_template, parse_template
from sf_runner.basics.errors import UsageError
from sf_runner.basics.paths import RunPaths, attempt_files
from sf_runner.cli.kind import BackendContext, QueueKind
from sf_runner.cli.ngc_options import NgcOptions
from sf_runner.cli.options import RunOptions
from sf_runner.describe.plan import Plan
from sf_runner.state.fold import RunState
from sf_runner.store.journal import Journal
from sf_runner.store.lock import run_lock

_PROGRESS_VARIABLE = "SF_RUNNER_PROGRESS_FILE"


class ClusterKind(QueueKind):
    """`cluster`: describes the cluster. `said_in`: where a user says what a job gets."""

    or_else = ""
    """What else can be done where a program is missing."""

    def __init__(self, name: str, cluster: Cluster, said_in: str) -> None:
        self.name = name
        self._said_in = said_in
        self._cluster = cluster

    def cluster(self, options: RunOptions) -> Cluster:
        """The cluster that these flags describe. UsageError in one line where they do not."""
        return self._cluster

    def programs(self, cluster: Cluster) -> Mapping[str, str]:
        """Programs that it needs -> who needs them, where there is more to say than its own name."""
        checked = CheckedCluster(cluster)
        return dict.fromkeys((checked.list("sf", 1)[0], checked.kill(["1"])[0]), "")

    def check(self, options: RunOptions, plan: Plan) -> None:
        self.refuse_flags_of_this_machine(options, f"what a job gets is said in {self._said_in}")
        cluster = self.cluster(options)
        if options.dry_run or options.print_only:
            return
        try:
            programs = self.programs(cluster)
        except AnswerError as exc:
            raise UsageError(f"--runner={self.name}: {exc}; see docs/backends.md") from exc
        for program, needed_by in programs.items():
            if shutil.which(program) is None:
                by = f" ({needed_by})" if needed_by else ""
                raise UsageError(
                    f"--runner={self.name} needs the program '{program}'{by}, which is not on PATH; install the "
                    f"command line of {cluster.name}{self.or_else}"
                )

    def make(self, context: BackendContext) -> ClusterBackend:
        cluster, state = self.cluster(context.options), context.state
        request_of = request_maker(context, state.run_id, cluster)
        ids = IdFile(context.plan.paths.cluster_ids)
        return ClusterBackend(state.run_id, cluster, request_of, ids, since=state.first_opened_at)

    def reopen(self, paths: RunPaths, state: RunState) -> ClusterBackend:
        ids = IdFile(paths.cluster_ids)
        return ClusterBackend(state.run_id, self._cluster, None, ids, since=state.first_opened_at)


def request_maker(context: BackendContext, run_id: str, cluster: Cluster) -> Callable[[Launch], SubmitRequest]:
    """From a launch to what the cluster is asked to submit."""
    run = context.plan.run_name
    argvs = {job.job_id: job.argv for job in context.plan.jobs}
    train_dir = context.options.train_dir_of_jobs or context.options.train_dir
    root = f"{train_dir.rstrip('/')}/{run}"  # the run's folder as jobs see it

    def argv(launch: Launch) -> list[str]:
        """The experiment's command, its variables before it."""
        if cluster.shares_files:
            return ["env", f"--chdir={Path.cwd()}", *_assignments(launch.env), *launch.argv]
        progress = attempt_files(root, launch.job, launch.attempt)[2]
        # Whether output is buffered here says nothing about the container.
        env = {"PYTHONUNBUFFERED": "1", **launch.env, _PROGRESS_VARIABLE: progress}
        return ["env", *_assignments(env), *argvs[launch.job]]

    return lambda launch: SubmitRequest(
        run_id=run_id, run=run, job=launch.job, attempt=launch.attempt, argv=argv(launch), log=launch.log
    )


def _assignments(env: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in env.items()]


class NgcKind(ClusterKind):
    """NVIDIA NGC: jobs are submitted by the command of a template."""

    or_else = ", or look at the commands with --ngc_print_only"

    def __init__(self) -> None:
        super().__init__("ngc", Ngc(), "--ngc_job_template")

    def cluster(self, options: RunOptions) -> Ngc:
        return Ngc(job_template(options.ngc), options.ngc.poll)

    def programs(self, cluster: Cluster) -> Mapping[str, str]:
        template = cluster.template if isinstance(cluster, Ngc) else None
        own = {template.program: template.source} if template is not None and template.program else {}
        return own | {"ngc": own.get("ngc", "the commands for NGC")}

    def preview(self, context: BackendContext, launches: Sequence[Launch]) -> Iterator[tuple[str, str]]:
        cluster = self.cluster(context.options)
        request_of = request_maker(context, context.state.run_id or _begin_run(context.plan), cluster)
        for launch in launches:
            yield f"{launch.job}, attempt {launch.attempt}", shlex.join(cluster.submit(request_of(launch))) + "\n"


def job_template(options: NgcOptions) -> Template:
    """The template that `--ngc_job_template` names. UsageError in one line when there is none that can be used."""
    path = options.job_template
    if not path:
        raise UsageError(
            "--runner=ngc needs --ngc_job_template=FILE, a file with the command that submits one job; "
            "docs/ngc.md shows one"
        )
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is no text"
        raise UsageError(f"--ngc_job_template={path}: {why}") from None
    template = parse_template(text, f"--ngc_job_template={path}", os.environ)
    check_job_template(template)
    return template


def _begin_run(plan: Plan) -> str:
    """The id of a run that was never started: names of jobs depend on it, so the start to come has to have the same."""
    with run_lock(plan.paths):
        journal, state = Journal.open(plan.paths.journal, plan.run_name)
        journal.close()
    return state.run_id
