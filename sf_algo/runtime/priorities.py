"""How the threads of the main process share the cores with the rollout workers."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import dataclass

import torch

from sf_algo.config import SamplingConfig
from sf_algo.config.sampling import usable_cores

LEARNER_NICENESS = 10


@dataclass(frozen=True, kw_only=True)
class Priorities:
    """Torch threads and niceness of the hub and the learners.

    On a CPU the learner could always use more time than there is. It is nicer than the others, so it gets
    what stepping and acting leave, and never keeps them waiting.
    """

    hub_threads: int
    learner_threads: int
    learner_niceness: int

    @staticmethod
    def choose(sampling: SamplingConfig, device: torch.device) -> Priorities:
        cores = usable_cores()
        if device.type != "cpu":
            return Priorities(hub_threads=1, learner_threads=1, learner_niceness=0)
        asked = sampling.learner_main_loop_num_cores
        return Priorities(hub_threads=1, learner_threads=asked or cores, learner_niceness=LEARNER_NICENESS)

    def prepare_hub(self) -> None:
        """To be called first in the hub's thread."""
        torch.set_num_threads(self.hub_threads)

    def prepare_learner(self) -> None:
        """To be called first in a learner's thread."""
        torch.set_num_threads(self.learner_threads)
        if self.learner_niceness:
            with suppress(OSError, AttributeError):  # one thread's own niceness: Linux only
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self.learner_niceness)
