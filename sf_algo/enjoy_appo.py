"""Watches or evaluates a trained policy:
`python -m sf_algo.enjoy_appo --env=CartPole-v1 --algo=APPO --experiment=first`."""

from __future__ import annotations

from collections.abc import Sequence

from sf_algo.config.entry import run_command
from sf_algo.config.resolve import Command, Invocation
from sf_algo.own.additions import NOTHING_ADDED, Additions, additions_of
from sf_algo.processes.threads import leave


def enjoy(invocation: Invocation) -> int:
    """Plays the policy that the command line names, or several against each other; returns the exit code."""
    from sf_algo.watching.enjoy import run_evaluation
    from sf_algo.watching.matches import run_matches

    run = run_matches if invocation.config.evaluation.policies else run_evaluation
    return run(invocation.config, additions_of(invocation))


def main(argv: Sequence[str] | None = None, additions: Additions = NOTHING_ADDED) -> int:
    """The command; `argv` without the program's name, by default the process's, and what a program adds. Returns
    the exit code."""
    return run_command(Command.ENJOY, enjoy, argv, additions)


if __name__ == "__main__":
    leave(main())
