"""Forks the child processes of a training from the main process while that is still small.

Workers are forked before torch is imported, so this module must not import it at the top.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sf_algo.config import Config
from sf_algo.processes.copies import ForkedCopy


@dataclass(frozen=True, kw_only=True)
class ForkedCopies:
    """The copies that were made. Where one is missing, a new process is started in its place."""

    workers: Sequence[ForkedCopy] = ()
    learner: ForkedCopy | None = None

    def let_go(self) -> None:
        """End the copies that no training has used."""
        for forked_copy in (*self.workers, *([self.learner] if self.learner else [])):
            forked_copy.let_go()


def copies_for_workers(config: Config) -> list[ForkedCopy]:
    """One copy for each rollout worker. Call it before torch is imported. Empty where copies cannot be made."""
    sampling = config.sampling
    # Numerical libraries are told to use one thread before they are loaded: too late for a copy.
    if not ForkedCopy.possible() or sampling.serial_mode or sampling.force_envs_single_thread:
        return []
    from sf_algo.envs.factory import import_family
    from sf_algo.rollout.worker import run_forked

    import_family(config.run.env)
    made: list[ForkedCopy] = []
    for _ in range(sampling.num_workers):
        made.append(ForkedCopy(run_forked, made))
    return made


def copy_for_learner(config: Config, others: Sequence[ForkedCopy]) -> ForkedCopy | None:
    """A copy for the learner process; None where the training has no such process. Imports torch. `others` are the
    copies made earlier."""
    if not (ForkedCopy.possible() and config.sampling.async_rl) or config.run.device == "gpu":
        return None
    import torch

    if config.run.device == "auto" and torch.cuda.is_available():
        return None
    from sf_algo.learning.learner_process import run_forked

    return ForkedCopy(run_forked, others)
