"""Trains a policy: `python -m sf_algo.train_appo --env=CartPole-v1 --algo=APPO --experiment=first`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sf_algo.config.entry import run_command
from sf_algo.config.resolve import Command, Invocation


def train(invocation: Invocation) -> int:
    """Runs the training that the command line describes; returns the exit code: 0 when it reached its limit,
    130 or 143 when SIGINT or SIGTERM stopped it (after saving)."""
    from sf_algo.runtime.launch import run_training

    return run_training(invocation.config)


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(Command.TRAIN, train, argv)


if __name__ == "__main__":
    sys.exit(main())
