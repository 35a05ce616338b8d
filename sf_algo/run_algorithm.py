"""Runs an algorithm by name: `python -m sf_algo.run_algorithm --algo=DUMMY_SAMPLER --env=doom_benchmark`.

`--algo=APPO` is the same as `python -m sf_algo.train_appo`; `--algo=DUMMY_SAMPLER` only steps environments
with random actions, which is the upper bound of what any training can reach.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sf_algo.config import Command, run_command
from sf_algo.config.command_line import parse_command_line
from sf_algo.own.additions import NOTHING_ADDED, Additions
from sf_algo.processes.threads import leave
from sf_algo.speed.dummy_sampler.run import run_dummy_sampler

DUMMY_SAMPLER = "DUMMY_SAMPLER"


def main(argv: Sequence[str] | None = None, additions: Additions = NOTHING_ADDED) -> int:
    """The command; `argv` without the program's name, by default the process's, and what a program adds. Returns
    the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    typed = parse_command_line(words)
    if not typed.help_wanted and typed.values.get(("run", "algo"), "APPO") != DUMMY_SAMPLER:
        from sf_algo import train_appo

        return train_appo.main(words, additions)
    return run_command(Command.RUN_ALGORITHM, run_dummy_sampler, words, additions)


if __name__ == "__main__":
    leave(main())
