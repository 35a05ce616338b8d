"""Lets all checkpoints of an experiment play against each other and rates them:
`python -m sf_algo.league --experiment=first`."""

from __future__ import annotations

from collections.abc import Sequence

from sf_algo.config.entry import run_command
from sf_algo.config.resolve import Command, Invocation
from sf_algo.own.additions import NOTHING_ADDED, Additions, additions_of
from sf_algo.processes.threads import leave


def league(invocation: Invocation) -> int:
    """Plays the games that are missing; returns the exit code."""
    from sf_algo.watching.league import run_league

    return run_league(invocation.config, additions_of(invocation))


def main(argv: Sequence[str] | None = None, additions: Additions = NOTHING_ADDED) -> int:
    """The command; `argv` without the program's name, by default the process's, and what a program adds. Returns
    the exit code."""
    return run_command(Command.LEAGUE, league, argv, additions)


if __name__ == "__main__":
    leave(main())
