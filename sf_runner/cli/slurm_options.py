"""The flags of `--runner=slurm`."""

from __future__ import annotations

import argparse
import re
import shlex
from dataclasses import dataclass
from typing import Any

from sf_runner.cli.parser import Parser, duration_s, whole

_SLURM_TIME = re.compile(r"\d+|\d+:\d\d(:\d\d)?|\d+-\d+(:\d\d){0,2}|UNLIMITED|INFINITE", re.IGNORECASE)
_SUFFIXED_TIME = re.compile(r"\d+(\.\d+)?[smhd]")


@dataclass(frozen=True, kw_only=True)
class SlurmOptions:
    """What `--slurm_*` says; the defaults are those of the flags. None: left to the cluster."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    time: str | None = None
    """As sbatch takes it."""
    mem: str | None = None
    gpus_per_job: int = 1
    cpus_per_gpu: int | None = None
    cpus_per_job: int | None = None
    experiments_per_job: int = 1
    side_by_side: int | None = None
    """None: one for each GPU of the job."""
    timeout: float | None = None
    signal_ahead: float | None = None
    """None: as is usual, and less before a short limit."""
    max_requeues: int = 100
    workdir: str | None = None
    sbatch_template: str | None = None
    args: tuple[str, ...] = ()
    poll: float = 10.0
    print_only: bool = False


def add_slurm_flags(parser: Parser, group: Any) -> None:
    for name in ("partition", "account", "qos", "constraint"):
        parser.flag(group, f"--slurm_{name}", str, f"as sbatch's --{name}", metavar="NAME")
    text = "time limit of a job as sbatch takes it (minutes, 12:00:00, 2-12), or as in 90m, 12h, 2d"
    parser.flag(group, "--slurm_time", slurm_time, text, metavar="TIME")
    parser.flag(group, "--slurm_mem", str, "memory of a job, e.g. 32G", metavar="SIZE")
    text = "GPUs of a job; 0: none (default: 1)"
    parser.flag(group, "--slurm_gpus_per_job", whole(0), text, default=1, metavar="N")
    parser.flag(group, "--slurm_cpus_per_gpu", whole(1), "cores of a job for each of its GPUs", metavar="N")
    parser.flag(group, "--slurm_cpus_per_job", whole(1), "cores of a job, whatever its GPUs", metavar="N")
    _add_packing(parser, group)
    text = "end an experiment after this time and queue it again; it goes on from its checkpoint"
    parser.flag(group, "--slurm_timeout", timeout_s, text, metavar="TIME")
    text = "how long before its time limit a job is told to save and queue again (default: 120, at most a third of it)"
    parser.flag(group, "--slurm_signal_ahead", duration_s, text, metavar="TIME")
    text = "how often a job may queue again because its time was over (default: 100)"
    parser.flag(group, "--slurm_max_requeues", whole(0), text, default=100, metavar="N")
    parser.flag(group, "--slurm_workdir", str, "folder for the output of the job scripts", metavar="DIR")
    text = "file with the job script; $CMD, $FILENAME, $PARTITION, $GPU, $CPU, $TIMEOUT are filled in"
    parser.flag(group, "--slurm_sbatch_template", str, text, metavar="FILE")
    text = "further options of sbatch, e.g. --slurm_args='--exclusive --reservation=mine'; may be repeated"
    parser.flag(group, "--slurm_args", words, text, action="append", metavar="OPTIONS")
    text = "longest time between two looks at the queue (default: 10)"
    parser.flag(group, "--slurm_poll", duration_s, text, default=10.0, metavar="TIME")
    parser.switch(group, "--slurm_print_only", "print the job scripts exactly as they would be submitted")


def _add_packing(parser: Parser, group: Any) -> None:
    text = "experiments that share a job (default: 1)"
    parser.flag(group, "--slurm_experiments_per_job", whole(1), text, default=1, metavar="N")
    text = "how many of them at a time (default: one for each GPU of the job; 1: one after another)"
    parser.flag(group, "--slurm_side_by_side", whole(1), text, metavar="N")


def slurm_time(text: str) -> str:
    """A time limit in one of Slurm's forms; those with a suffix s, m, h, d become minutes, rounded up."""
    if _SUFFIXED_TIME.fullmatch(text):
        return str(max(1, -(-int(duration_s(text)) // 60)))
    if not _SLURM_TIME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"'{text}' is no time limit; e.g. 90 (minutes), 12:00:00, 2-12, 36h, 2d")
    return text


def timeout_s(text: str) -> float | None:
    """Seconds; 0 means no limit, as in the predecessor."""
    return duration_s(text) or None


def words(text: str) -> tuple[str, ...]:
    """Options as a shell would split them."""
    try:
        return tuple(shlex.split(text))
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"'{text}' cannot be split: {exc}") from None
