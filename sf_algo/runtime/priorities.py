"""How the processes of a training share the cores of a CPU."""

from __future__ import annotations

from dataclasses import dataclass

from sf_algo.config import SamplingConfig
from sf_algo.config.sampling import usable_cores

LEARNER_NICENESS = 5


@dataclass(frozen=True, kw_only=True)
class Priorities:
    """Torch threads and niceness.

    The learner could always use more time than there is. It is nicer than the others, so it gets what
    stepping and acting leave, and does not keep them waiting.
    """

    acting_threads: int
    learner_threads: int
    learner_niceness: int

    @staticmethod
    def choose(sampling: SamplingConfig) -> Priorities:
        """For a learner beside the acting process, both on the CPU."""
        return Priorities(
            acting_threads=1,
            learner_threads=sampling.learner_main_loop_num_cores or usable_cores(),
            learner_niceness=LEARNER_NICENESS,
        )
