"""The flags of `python -m sf_runner.run`, grouped, typed and checked; every fault is reported at once."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from sf_runner.errors import UsageError, did_you_mean
from sf_runner.notify import NOTIFY_EVENTS, NotifyEvent

BACKENDS = ("processes", "slurm", "ngc")
ORDERS = ("submission", "seed_major", "longest_first", "shortest_first")
UIS = ("auto", "rich", "plain", "none")

_EPILOG = """\
A second start of the same command goes on where the first one stopped: finished experiments are not repeated,
running ones are found again. Ctrl-C once: nothing new is started; twice: running experiments are told to end;
three times: they are killed. Exit code: 0 all succeeded, 1 some did not, 2 wrong usage, 3 the run is already
being run, 130/143 interrupted.
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
    order: str
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
    changed: str
    timeout: float | None
    stall_timeout: float | None
    grace: float
    progress_every: float
    notify_command: str | None
    notify_on: tuple[NotifyEvent, ...]


class Parser(argparse.ArgumentParser):
    """Raises UsageError instead of printing usage and exiting; names the nearest flag for an unknown one."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)

    def parse_strictly(self, argv: Sequence[str]) -> argparse.Namespace:
        namespace, unknown = self.parse_known_args(argv)
        if unknown:
            name = unknown[0].split("=")[0]
            flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
            raise UsageError(f"unknown argument '{name}'.{did_you_mean(name, flags)}")
        return namespace


def duration_s(text: str) -> float:
    """Seconds; a suffix s, m, h or d is understood."""
    factors = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    number, factor = (text[:-1], factors[text[-1]]) if text[-1:] in factors else (text, 1.0)
    try:
        value = float(number) * factor
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is no duration; give seconds, or a number with s, m, h or d")
    return value


def memory_mb(text: str) -> int:
    """MiB; a suffix M or G is understood."""
    number, factor = text.rstrip("iB"), 1.0
    if number[-1:].upper() in ("M", "G"):
        number, factor = number[:-1], 1024.0 if number[-1:].upper() == "G" else 1.0
    try:
        value = int(float(number) * factor)
    except ValueError:
        value = 0
    if value <= 0:
        raise argparse.ArgumentTypeError(f"'{text}' is no amount of memory; give MiB, or a number with M or G")
    return value


def whole(least: int) -> Any:
    """A whole number of at least `least`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least {least}")
        return value

    return parse


def boolean(text: str) -> bool:
    """True/False and what people write for them."""
    if text.lower() in ("true", "1", "yes", "on"):
        return True
    if text.lower() in ("false", "0", "no", "off"):
        return False
    raise argparse.ArgumentTypeError(f"'{text}' is neither True nor False")


def add_flag(group: Any, name: str, text: str) -> None:
    """A switch: `--name`, or `--name=True|False` as the predecessor wrote it."""
    group.add_argument(name, nargs="?", type=boolean, const=True, default=False, metavar="BOOL", help=text)


def make_parser() -> Parser:
    parser = Parser(
        prog="python -m sf_runner.run",
        description="Run every experiment of a run description, once, with success.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_what(parser.add_argument_group("what to run"))
    _add_how_many(parser.add_argument_group("how many at a time, in which order"))
    _add_where(parser.add_argument_group("GPUs and cores"))
    _add_failures(parser.add_argument_group("failures, retries, limits"))
    _add_notifications(parser.add_argument_group("notifications"))
    return parser


def _add_what(group: Any) -> None:
    group.add_argument("--run", metavar="MODULE", help="module or .py file that defines RUN_DESCRIPTION (required)")
    group.add_argument(
        "--runner", "--backend", dest="backend", default="processes", metavar="BACKEND",
        help="where experiments run: processes (this machine), slurm, ngc (default: processes)",
    )  # fmt: skip
    group.add_argument("--train_dir", default="./train_dir", help="where results go (default: ./train_dir)")
    group.add_argument("--experiment_suffix", default=None, help="appended to the experiments' folders")
    add_flag(group, "--dry_run", "print the plan (commands, folders, environment, slots) and start nothing")
    group.add_argument(
        "--ui",
        default="auto",
        choices=UIS,
        help="what to show; auto: the full-screen UI on a terminal, plain lines elsewhere (default: auto)",
    )
    group.add_argument(
        "--progress_every", type=duration_s, default=30.0, metavar="TIME",
        help="time between progress lines of the plain output (default: 30)",
    )  # fmt: skip


def _add_how_many(group: Any) -> None:
    group.add_argument(
        "--max_parallel",
        type=whole(1),
        metavar="N",
        help="experiments side by side (default: as many as there are slots)",
    )
    group.add_argument("--pause_between", type=duration_s, metavar="TIME", help="pause between two starts (default: 0)")
    group.add_argument(
        "--order", default="submission", choices=ORDERS,
        help="submission: as described (default); seed_major: one seed of everything first; longest_first, "
        "shortest_first: by durations measured in earlier runs",
    )  # fmt: skip


def _add_where(group: Any) -> None:
    group.add_argument(
        "--num_gpus",
        type=whole(-1),
        metavar="N",
        help="GPUs to use; 0: none, -1: all (default: all that are visible)",
    )
    group.add_argument(
        "--experiments_per_gpu", type=whole(-1), metavar="N",
        help="experiments that share a GPU (default: 1; -1: leave CUDA_VISIBLE_DEVICES alone)",
    )  # fmt: skip
    group.add_argument("--gpus", metavar="LIST", help="use these, in this order: indices or UUIDs, e.g. 2,0")
    group.add_argument(
        "--gpu_ids",
        default="uuid",
        choices=("uuid", "index"),
        help="what CUDA_VISIBLE_DEVICES holds (default: uuid)",
    )
    add_flag(group, "--gpu_exclude_busy", "leave GPUs alone on which other people compute")
    group.add_argument(
        "--gpu_memory_per_experiment", type=memory_mb, metavar="MIB",
        help="start an experiment only where this much GPU memory is free and not promised, e.g. 6G",
    )  # fmt: skip
    group.add_argument(
        "--cpus_per_experiment",
        type=whole(1),
        metavar="N",
        help="cores of its own for each experiment (default: not bound)",
    )


def _add_failures(group: Any) -> None:
    group.add_argument(
        "--max_retries",
        type=whole(0),
        default=0,
        metavar="N",
        help="try a failed experiment again (default: 0)",
    )
    group.add_argument(
        "--retry_delay", type=duration_s, default=5.0, metavar="TIME",
        help="wait before the first retry, doubled for each further one (default: 5)",
    )  # fmt: skip
    group.add_argument(
        "--max_failures", type=whole(0), metavar="N",
        help="start nothing more after N failed experiments; 0: never stop (default: when the first ten all fail)",
    )  # fmt: skip
    add_flag(group, "--retry_failed", "run experiments again that failed in an earlier start")
    add_flag(group, "--retry_cancelled", "run experiments again that were cancelled in an earlier start")
    group.add_argument(
        "--changed", default="refuse", choices=("refuse", "keep", "rerun"),
        help="experiments that have run and whose command is another one now: refuse to start (default), keep their "
        "results, or run them again",
    )  # fmt: skip
    group.add_argument("--timeout", type=duration_s, metavar="TIME", help="end an attempt that runs longer, e.g. 12h")
    group.add_argument(
        "--stall_timeout", type=duration_s, metavar="TIME",
        help="end an attempt that wrote neither log nor progress for so long (start-up excluded)",
    )  # fmt: skip
    group.add_argument(
        "--grace",
        type=duration_s,
        default=30.0,
        metavar="TIME",
        help="time to end after TERM before KILL (default: 30)",
    )


def _add_notifications(group: Any) -> None:
    group.add_argument(
        "--notify_command", metavar="COMMAND",
        help="shell command that tells you: it finds the summary in $SF_RUNNER_TITLE and $SF_RUNNER_SUMMARY",
    )  # fmt: skip
    group.add_argument(
        "--notify_on", metavar="LIST",
        help="when: end, first_failure, or both with a comma between (default: both)",
    )  # fmt: skip


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
    if namespace.backend not in BACKENDS:
        raise UsageError(f"--runner={namespace.backend} is unknown.{did_you_mean(namespace.backend, BACKENDS)}")
    values = vars(namespace)
    if values["gpus"] is not None:
        values["gpus"] = tuple(part.strip() for part in values["gpus"].split(",") if part.strip())
        if not values["gpus"]:
            raise UsageError("--gpus is empty; --num_gpus=0 uses none")
    values["notify_on"] = _notify_on(values["notify_on"], values["notify_command"])
    return RunOptions(**values)
