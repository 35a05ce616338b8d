"""`--runner=ngc` for the commands: NVIDIA NGC, or any other cloud that is driven by a command line."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sf_runner.backends.base import Launch
from sf_runner.backends.cloud.backend import NgcBackend
from sf_runner.backends.cloud.commands import CommandSet, parse_commands, read_commands
from sf_runner.backends.cloud.ids import IdFile
from sf_runner.backends.cloud.template import (
    COMMANDS,
    NAMES,
    OTHERS,
    Template,
    check_job_template,
    job_values,
    parse_template,
)
from sf_runner.basics.errors import BackendError, StorageError, UsageError
from sf_runner.basics.paths import RunPaths, attempt_files
from sf_runner.cli.backends import BackendContext
from sf_runner.cli.ngc_options import NgcOptions
from sf_runner.cli.options import RunOptions
from sf_runner.cli.slots import SlotChoice
from sf_runner.describe.plan import Plan
from sf_runner.engine.reconcile import slot_requests
from sf_runner.slots.cores import read_topology
from sf_runner.slots.devices import GpuSnapshot
from sf_runner.slots.table import SlotPolicy, SlotRequest, SlotSetup
from sf_runner.state.fold import RunState
from sf_runner.store.journal import Journal
from sf_runner.store.lock import run_lock

_HERE_ONLY = (
    "num_gpus", "experiments_per_gpu", "gpus", "gpu_exclude_busy", "gpu_memory_per_experiment", "cpus_per_experiment",
)  # fmt: skip
"""Flags about the GPUs and cores of this machine."""
_PROGRESS_VARIABLE = "SF_RUNNER_PROGRESS_FILE"


class NgcKind:
    name = "ngc"
    local = False
    queues = True
    hands_over_all = False  # only the runner counts how many are submitted

    def check(self, options: RunOptions, plan: Plan) -> None:
        for name in _HERE_ONLY:
            if getattr(options, name):
                raise UsageError(f"--{name} is about this machine; what a job gets is said in --ngc_job_template")
        template, commands = job_template(options.ngc), command_set(options.ngc)
        if options.dry_run or options.print_only:
            return
        for command in (template, commands.list, commands.kill):
            program = command.words[0][0] if command.words[0] else ""
            if isinstance(program, str) and shutil.which(program) is None:
                raise UsageError(
                    f"--runner=ngc needs the program '{program}' ({command.source}), which is not on PATH; install "
                    f"the command line of {commands.name}, or look at the commands with --ngc_print_only"
                )

    def choose_slots(self, options: RunOptions, plan: Plan) -> SlotChoice:
        """The template says what a job gets; as many as there are unless somebody wants fewer."""
        setup = SlotSetup(policy=SlotPolicy(num_gpus=0, experiments_per_gpu=-1), topology=read_topology())
        parallel = options.max_parallel or plan.defaults.max_parallel or max(1, len(plan.jobs))
        return SlotChoice(setup=setup, probe=None, snapshot=GpuSnapshot(), max_parallel=parallel)

    def slot_requests(self, plan: Plan) -> Mapping[str, SlotRequest]:
        return {shape: SlotRequest() for shape in slot_requests(plan)}

    def make(self, context: BackendContext) -> NgcBackend:
        state, commands = context.state, command_set(context.options.ngc)
        _keep_commands(context)
        renderer = Renderer.create(context, state.run_id)
        return NgcBackend(
            state.run_id,
            commands,
            renderer.render,
            IdFile(context.plan.paths.ngc_ids, commands.name),
            since=state.first_opened_at,
        )

    def reopen(self, paths: RunPaths, state: RunState) -> NgcBackend:
        """With the command set of the start that is to be ended, as that start kept it."""
        kept = paths.ngc_commands
        try:
            text = kept.read_text(encoding="utf-8")
        except OSError as exc:
            raise StorageError(f"cannot read {kept}: {exc.strerror}; start the run again and cancel it there") from None
        commands = parse_commands(text, str(kept), os.environ)
        return NgcBackend(
            state.run_id,
            commands,
            _submits_nothing,
            IdFile(paths.ngc_ids, commands.name),
            since=state.first_opened_at,
        )

    def preview(self, context: BackendContext, launches: Sequence[Launch]) -> Iterator[tuple[str, str]]:
        run_id = context.state.run_id or _begin_run(context.plan)
        renderer = Renderer.create(context, run_id)
        for launch in launches:
            yield f"{launch.job}, attempt {launch.attempt}", shlex.join(renderer.render(launch)) + "\n"


@dataclass(frozen=True, kw_only=True)
class Renderer:
    """From a launch to the command that submits it.

    argvs: the command of each job as the description has it: its `python` is that of the container, not ours.
    root: the run's folder inside of the container.
    """

    template: Template
    run_id: str
    run_name: str
    argvs: Mapping[str, Sequence[str]]
    root: str

    @classmethod
    def create(cls, context: BackendContext, run_id: str) -> Renderer:
        plan, options = context.plan, context.options
        train_dir = options.ngc.train_dir or options.train_dir
        return cls(
            template=job_template(options.ngc),
            run_id=run_id,
            run_name=plan.run_name,
            argvs={job.job_id: job.argv for job in plan.jobs},
            root=f"{train_dir.rstrip('/')}/{plan.run_name}",
        )

    def render(self, launch: Launch) -> tuple[str, ...]:
        command = self.command(launch)
        values = job_values(
            run_id=self.run_id, run_name=self.run_name, job=launch.job, attempt=launch.attempt, command=command
        )
        return self.template.render(values, command)

    def command(self, launch: Launch) -> list[str]:
        """What the container is to run: the experiment's command, its variables before it."""
        progress = attempt_files(self.root, launch.job, launch.attempt)[2]
        # Whether output is buffered here says nothing about the container.
        env = {"PYTHONUNBUFFERED": "1", **launch.env, _PROGRESS_VARIABLE: progress}
        return ["env", *(f"{name}={value}" for name, value in env.items()), *self.argvs[launch.job]]


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
    template = parse_template(text, f"--ngc_job_template={path}", (*NAMES, *COMMANDS, *OTHERS), os.environ)
    check_job_template(template)
    return template


def command_set(options: NgcOptions) -> CommandSet:
    commands = parse_commands(*read_commands(options.commands), os.environ)
    return commands if options.poll is None else replace(commands, poll_s=options.poll)


def _keep_commands(context: BackendContext) -> None:
    path = context.plan.paths.ngc_commands
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(read_commands(context.options.ngc.commands)[0], encoding="utf-8")
    except OSError as exc:
        raise StorageError(f"cannot write {path}: {exc.strerror}; free some space and start again") from exc


def _submits_nothing(launch: Launch) -> tuple[str, ...]:
    raise BackendError(f"'{launch.job}' cannot be submitted while the run is being ended")


def _begin_run(plan: Plan) -> str:
    """The id of a run that was never started: names of jobs depend on it, so the start to come has to have the same."""
    with run_lock(plan.paths):
        journal, events = Journal.open(plan.paths.journal, plan.run_name)
        journal.close()
    state = RunState()
    state.apply_all(events)
    return state.run_id
