"""Trains a policy: `python -m sf_algo.train_appo --env=CartPole-v1 --algo=APPO --experiment=first`."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sf_algo.config.entry import run_command
from sf_algo.config.resolve import Command, Invocation
from sf_algo.own.additions import NOTHING_ADDED, Additions, additions_of
from sf_algo.processes.threads import keep_freed_memory, leave, prepare_threads
from sf_algo.training.forked_copies import copies_for_workers, with_learners

_BEGAN = time.monotonic()


def train(invocation: Invocation) -> int:
    """Runs the training that the command line describes; returns the exit code: 0 when it reached its limit,
    130 or 143 when SIGINT or SIGTERM stopped it (after saving). With --tune it trains nothing and leaves nothing."""
    if invocation.config.speed.tune:
        from sf_algo.speed.tune import run_tuning

        return run_tuning(invocation)
    additions = additions_of(invocation)
    copies = copies_for_workers(invocation.config, additions)
    try:
        keep_freed_memory()
        from sf_algo.training.launch import run_training

        copies = with_learners(copies, invocation.config, additions)
        return run_training(invocation.config, copies, additions, began=_BEGAN)
    finally:
        copies.let_go()


def main(argv: Sequence[str] | None = None, additions: Additions = NOTHING_ADDED) -> int:
    """The command; `argv` without the program's name, by default the process's, and what a program adds. Returns
    the exit code."""
    prepare_threads()  # the user's module, which is imported for its flags, may import torch
    return run_command(Command.TRAIN, train, argv, additions)


if __name__ == "__main__":
    leave(main())
