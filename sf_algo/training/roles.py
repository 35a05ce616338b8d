"""Who will be the child processes of a training: copies of the main process, made while that is still small.

Imports nothing that is large: when workers are copied, torch must not be there yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sf_algo.config import Config
from sf_algo.processes.copies import Understudy


@dataclass(frozen=True, kw_only=True)
class Cast:
    """Those that there are. For whoever is missing, a new process is started."""

    workers: Sequence[Understudy] = ()
    learner: Understudy | None = None

    def let_go(self) -> None:
        """The training is over, or has not even begun: nobody waits for a role any more."""
        for understudy in (*self.workers, *([self.learner] if self.learner else [])):
            understudy.let_go()


def worker_understudies(config: Config) -> list[Understudy]:
    """One for each rollout worker that the training will have. To be called before torch is imported."""
    sampling = config.sampling
    # Numerical libraries are told to use one thread before they are loaded: too late for a copy.
    if not Understudy.possible() or sampling.serial_mode or sampling.force_envs_single_thread:
        return []
    from sf_algo.envs.factory import import_family
    from sf_algo.rollout.worker import play

    import_family(config.run.env)
    made: list[Understudy] = []
    for _ in range(sampling.num_workers):
        made.append(Understudy(play, made))
    return made


def learner_understudy(config: Config, others: Sequence[Understudy]) -> Understudy | None:
    """For the learner process, where the training will have one. Imports torch. `others` were made before."""
    if not (Understudy.possible() and config.sampling.async_rl) or config.run.device == "gpu":
        return None
    import torch

    if config.run.device == "auto" and torch.cuda.is_available():
        return None
    from sf_algo.learning.learner_process import play

    return Understudy(play, others)
