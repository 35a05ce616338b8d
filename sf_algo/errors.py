"""The exceptions of the trainer. Messages are one line, name the flag, file or worker, and say what to do.

A command prints ``error: <message>`` for any of them; `exit_code` is 2 where the user's input is at fault and
1 where something failed at work.
"""

from __future__ import annotations

from collections.abc import Sequence


class SfAlgoError(Exception):
    """Root of every error that a user may see."""

    exit_code: int = 1


class ConfigError(SfAlgoError, ValueError):
    """The command line or a stored configuration cannot be used. Holds every fault, not only the first."""

    exit_code = 2

    def __init__(self, faults: str | Sequence[str]) -> None:
        self.faults: tuple[str, ...] = (faults,) if isinstance(faults, str) else tuple(faults)
        super().__init__("; ".join(self.faults))


class EnvError(SfAlgoError):
    """An environment cannot be made as the flags say, or does not keep its contract."""

    exit_code = 2


class UnknownEnvError(EnvError, ValueError):
    """No environment of that name."""


class EnvContractError(EnvError):
    """A running environment does what its interface forbids, or what its spaces deny: a new one would do it, too."""


class EnvCrashedError(EnvError):
    """A running environment is beyond use (its engine died); its maker may start a new one in its place."""

    exit_code = 1


class MissingDependencyError(SfAlgoError, ImportError):
    """An optional library or data file is missing; the message names the command that gets it."""

    exit_code = 2


class ModelError(SfAlgoError, ValueError):
    """The network cannot be built for these observations, actions and flags."""

    exit_code = 2


class CheckpointError(SfAlgoError):
    """A checkpoint cannot be written or read."""


class CheckpointMismatchError(CheckpointError):
    """A sound checkpoint of another architecture than the configured one."""

    exit_code = 2


class StorageError(SfAlgoError):
    """A folder or file of the experiment cannot be written (full disk, permissions)."""


class ExperimentInUseError(SfAlgoError):
    """Another process trains in the same folder."""

    exit_code = 2


class SummaryError(SfAlgoError):
    """Summaries cannot be set up (Weights & Biases refuses, is not installed or not logged in)."""

    exit_code = 2


class WorkerError(SfAlgoError):
    """A process of the training died, hung or raised; the message names it and its environment."""


class DivergedError(SfAlgoError):
    """Training has come to numbers that are not finite, from which nothing can be learned."""
