"""The flags of `--runner=ngc`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sf_runner.cli.parser import Parser, duration_s


@dataclass(frozen=True, kw_only=True)
class NgcOptions:
    """What `--ngc_*` says; the defaults are those of the flags. None: not given."""

    job_template: str | None = None
    train_dir: str | None = None
    poll: float | None = None
    print_only: bool = False


def add_ngc_flags(parser: Parser, group: Any) -> None:
    text = "file with the command that submits one job; {{ name }} and {{ experiment_cmd }} are filled in (required)"
    parser.flag(group, "--ngc_job_template", str, text, metavar="FILE")
    text = "where results go inside of the jobs' containers (default: --train_dir)"
    parser.flag(group, "--ngc_train_dir", str, text, metavar="DIR")
    text = "time between two looks at the list of jobs (default: 15)"
    parser.flag(group, "--ngc_poll", duration_s, text, metavar="TIME")
    parser.switch(group, "--ngc_print_only", "print the commands exactly as they would be run, and run none")
