"""The flags of `python -m sf_runner.run`, grouped, typed and checked; every fault is reported at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from sf_runner.basics.errors import UsageError, did_you_mean
from sf_runner.cli.ngc_options import NgcOptions, add_ngc_flags
from sf_runner.cli.parser import (
    Parser,
    device_list,
    duration_s,
    given_flags,
    memory_mb,
    one_of,
    section,
    whole,
)
from sf_runner.cli.slurm_options import SlurmOptions, add_slurm_flags
from sf_runner.engine.notify_events import NOTIFY_EVENTS, NotifyEvent

if TYPE_CHECKING:  # the guardian loads this module and stays small
    from sf_runner.engine.reconcile import ChangedPolicy, Order


@dataclass(frozen=True, kw_only=True)
class BuiltIn:
    """What the command line has to know of a backend before anything of it is loaded.

    kind: module:class of its `BackendKind`. flags: its own flags, which begin with its name; None: it has none.
    guarded: its jobs are children of the runner, a guardian inherits them if the runner is killed.
    """

    kind: str
    flags: type[SlurmOptions | NgcOptions] | None = None
    guarded: bool = False


BUILT_IN = {
    "processes": BuiltIn(kind="sf_runner.cli.processes_kind:ProcessesKind", guarded=True),
    "slurm": BuiltIn(kind="sf_runner.cli.slurm_kind:SlurmKind", flags=SlurmOptions),
    "ngc": BuiltIn(kind="sf_runner.cli.cluster_kind:NgcKind", flags=NgcOptions),
}
ORDERS = ("submission", "seed_major", "longest_first", "shortest_first")
CHANGED = ("refuse", "keep", "rerun")
UIS = ("auto", "rich", "plain", "none")

_EPILOG = """\
TIME is in seconds, or as in 90s, 15m, 12h, 2d. MIB is in MiB, or as in 6G.

The same command again goes on where the first one stopped: finished
experiments are not repeated, running ones are found again.

Ctrl-C once: nothing new is started; twice: running experiments are told to
end; three times: they are killed. SIGHUP: they go on without the runner.

Exit code: 0 all succeeded, 1 some did not, 2 wrong usage, 3 the run is already
being run, 130 or 143 interrupted.
"""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Command line of the run command. None: not given, a default of the description or of the runner applies."""

    run: str
    backend: str
    train_dir: str
    experiment_suffix: str | None
    dry_run: bool
    ui: str
    max_parallel: int | None
    pause_between: float | None
    order: Order
    num_gpus: int | None
    experiments_per_gpu: int | None
    gpus: tuple[str, ...] | None
    gpu_ids: str
    gpu_exclude_busy: bool
    gpu_memory_per_experiment: int | None
    cpus_per_experiment: int | None
    max_retries: int
    retry_delay: float
    max_failures: int | None
    retry_failed: bool
    retry_cancelled: bool
    changed: ChangedPolicy
    timeout: float | None
    stall_timeout: float | None
    grace: float
    progress_every: float
    notify_command: str | None
    notify_on: tuple[NotifyEvent, ...]
    detach: bool
    slurm: SlurmOptions
    ngc: NgcOptions

    @property
    def guarded(self) -> bool:
        """Whether the runner needs guardians."""
        return self.backend in BUILT_IN and BUILT_IN[self.backend].guarded

    @property
    def print_only(self) -> bool:
        """Whether to show what would be submitted, and to submit nothing."""
        return bool(self._own("print_only"))

    @property
    def train_dir_of_jobs(self) -> str | None:
        """What `train_dir` is called where jobs run; None: the same."""
        name: str | None = self._own("train_dir")
        return name

    def _own(self, name: str) -> Any:
        """A flag of the backend's own; None where it has no such flag."""
        return getattr(getattr(self, self.backend, None), name, None)

    @property
    def retry(self) -> tuple[Literal["failed", "cancelled"], ...]:
        """Which ended experiments are to run again."""
        failed: tuple[Literal["failed"], ...] = ("failed",) if self.retry_failed else ()
        cancelled: tuple[Literal["cancelled"], ...] = ("cancelled",) if self.retry_cancelled else ()
        return (*failed, *cancelled)


def make_parser() -> Parser:
    """All flags of `sf_runner.run`."""
    what = "Run every experiment of a run description, once, with success."
    parser = Parser("sf_runner.run", "--run=MODULE", what, _EPILOG)
    _add_what(parser, parser.add_argument_group("what to run"))
    _add_how_many(parser, parser.add_argument_group("how many at a time, in which order"))
    _add_where(parser, parser.add_argument_group("GPUs and cores"))
    _add_failures(parser, parser.add_argument_group("failures, retries, limits"))
    _add_notifications(parser, parser.add_argument_group("notifications"))
    add_slurm_flags(parser, parser.add_argument_group("Slurm (--runner=slurm)"))
    add_ngc_flags(parser, parser.add_argument_group("NGC (--runner=ngc)"))
    return parser


def _add_what(parser: Parser, group: Any) -> None:
    group.add_argument("--run", metavar="MODULE", help="module or .py file that defines RUN_DESCRIPTION (required)")
    text = "where experiments run: processes (this machine), slurm, ngc, or package.module:Class (default: processes)"
    parser.flag(group, "--runner", _backend, text, aliases=["--backend"], dest="backend", default="processes")
    group.add_argument(
        "--train_dir", metavar="DIR", default="./train_dir", help="where results go (default: ./train_dir)"
    )
    group.add_argument("--experiment_suffix", metavar="TEXT", help="appended to the experiments' folders")
    parser.switch(group, "--dry_run", "print the plan (commands, folders, environment, slots) and start nothing")
    parser.flag(group, "--ui", one_of(*UIS), f"what to show: {', '.join(UIS)} (default: auto)", default="auto")
    parser.switch(group, "--detach", "submit and leave; start again, or status --watch, to come back (slurm, ngc)")
    text = "time between progress lines of the plain output (default: 30)"
    parser.flag(group, "--progress_every", duration_s, text, default=30.0, metavar="TIME")


def _add_how_many(parser: Parser, group: Any) -> None:
    text = "experiments side by side (default: as many as there are slots)"
    parser.flag(group, "--max_parallel", whole(1), text, metavar="N")
    parser.flag(group, "--pause_between", duration_s, "pause between two starts (default: 0)", metavar="TIME")
    text = (
        "submission: as described (default); seed_major: one seed of everything first; longest_first, shortest_first: "
        "by durations measured in earlier runs"
    )
    parser.flag(group, "--order", one_of(*ORDERS), text, default="submission", metavar="ORDER")


def _add_where(parser: Parser, group: Any) -> None:
    text = "GPUs to use; 0: none, -1: all (default: all that are visible)"
    parser.flag(group, "--num_gpus", whole(-1), text, metavar="N")
    text = "experiments that share a GPU (default: 1; -1: leave CUDA_VISIBLE_DEVICES alone)"
    parser.flag(group, "--experiments_per_gpu", whole(-1), text, metavar="N")
    text = "use these, in this order: indices or UUIDs, e.g. 2,0"
    parser.flag(group, "--gpus", device_list, text, metavar="LIST")
    text = "what CUDA_VISIBLE_DEVICES holds: uuid, index (default: uuid)"
    parser.flag(group, "--gpu_ids", one_of("uuid", "index"), text, default="uuid", metavar="KIND")
    parser.switch(group, "--gpu_exclude_busy", "leave GPUs alone on which other people compute")
    text = "start an experiment only where this much GPU memory is free and not promised, e.g. 6G"
    parser.flag(group, "--gpu_memory_per_experiment", memory_mb, text, metavar="MIB")
    text = "cores of its own for each experiment (default: not bound)"
    parser.flag(group, "--cpus_per_experiment", whole(1), text, metavar="N")


def _add_failures(parser: Parser, group: Any) -> None:
    text = "how often a failed experiment is tried again (default: 0)"
    parser.flag(group, "--max_retries", whole(0), text, default=0, metavar="N")
    text = "wait before the first retry, doubled for each further one (default: 5)"
    parser.flag(group, "--retry_delay", duration_s, text, default=5.0, metavar="TIME")
    text = (
        "start nothing more after N failed experiments; 0: never stop (default: when all of the first ten fail, or of "
        "twice --max_parallel)"
    )
    parser.flag(group, "--max_failures", whole(0), text, metavar="N")
    parser.switch(group, "--retry_failed", "run experiments again that failed in an earlier start")
    parser.switch(group, "--retry_cancelled", "run experiments again that were cancelled in an earlier start")
    text = (
        "experiments that have run and whose command is another one now: refuse to start (default), keep their "
        "results, or rerun them"
    )
    parser.flag(group, "--changed", one_of(*CHANGED), text, default="refuse", metavar="HOW")
    parser.flag(group, "--timeout", duration_s, "end an attempt that runs longer, e.g. 12h", metavar="TIME")
    text = "end an attempt that wrote neither log nor progress for so long (start-up excluded)"
    parser.flag(group, "--stall_timeout", duration_s, text, metavar="TIME")
    text = "time to end after TERM before KILL (default: 30)"
    parser.flag(group, "--grace", duration_s, text, default=30.0, metavar="TIME")


def _add_notifications(parser: Parser, group: Any) -> None:
    text = "shell command that tells you: it finds the summary in $SF_RUNNER_TITLE and $SF_RUNNER_SUMMARY"
    parser.flag(group, "--notify_command", str, text, metavar="COMMAND")
    text = "when: end, first_failure, or both with a comma between (default: both)"
    parser.flag(group, "--notify_on", str, text, metavar="LIST")


def _backend(text: str) -> str:
    """One of the built-in ones, or the path of a class."""
    module, colon, name = text.partition(":")
    if colon and name.isidentifier() and all(part.isidentifier() for part in module.split(".")):
        return text
    return one_of(*BUILT_IN)(text)


def _notify_on(text: str | None, command: str | None) -> tuple[NotifyEvent, ...]:
    if text is not None and not command:
        raise UsageError("--notify_on says when, but --notify_command=COMMAND is missing")
    names = [name.strip() for name in text.split(",") if name.strip()] if text is not None else list(NOTIFY_EVENTS)
    for name in names:
        if name not in NOTIFY_EVENTS:
            raise UsageError(f"--notify_on={text}: '{name}' is unknown.{did_you_mean(name, NOTIFY_EVENTS)}")
    if not names:
        raise UsageError("--notify_on is empty; give end, first_failure, or both with a comma between")
    return tuple(name for name in NOTIFY_EVENTS if name in names)


def parse(argv: Sequence[str]) -> RunOptions:
    """UsageError in one line; SystemExit for --help."""
    namespace = make_parser().parse_strictly(argv)
    if not namespace.run:
        raise UsageError("--run is missing: name a module or .py file, e.g. --run=run_descriptions.quickstart")
    namespace.notify_on = _notify_on(namespace.notify_on, namespace.notify_command)
    values = vars(namespace)
    values["slurm_args"] = tuple(chain.from_iterable(values["slurm_args"] or ()))
    for name, built_in in BUILT_IN.items():
        if built_in.flags:
            values[name] = section(built_in.flags, values, f"{name}_")
    options = RunOptions(**values)
    _check_backend(options)
    return options


def _check_backend(options: RunOptions) -> None:
    """Flags of another backend would be ignored silently otherwise."""
    if options.detach and options.guarded:
        raise UsageError(
            f"--detach: experiments of --runner={options.backend} need their runner; close the terminal instead, "
            "they go on without it"
        )
    for name, built_in in BUILT_IN.items():
        given = given_flags(getattr(options, name), built_in.flags(), f"{name}_") if built_in.flags else []
        if given and options.backend != name:
            raise UsageError(f"{given[0]} is a flag of --runner={name}, not of --runner={options.backend}")
