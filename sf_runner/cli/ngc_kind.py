"""`--runner=ngc` for the commands: a cluster whose jobs are submitted by the command of a template."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sf_runner.backends.base import Launch
from sf_runner.backends.cluster.api import Cluster
from sf_runner.backends.cluster.ngc import Ngc
from sf_runner.backends.cluster.template import Template, check_job_template, parse_template
from sf_runner.basics.errors import UsageError
from sf_runner.cli.cluster_kind import ClusterKind, request_maker
from sf_runner.cli.kind import BackendContext
from sf_runner.cli.ngc_options import NgcOptions
from sf_runner.cli.options import RunOptions
from sf_runner.describe.plan import Plan
from sf_runner.store.journal import Journal
from sf_runner.store.lock import run_lock


class NgcKind(ClusterKind):
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
