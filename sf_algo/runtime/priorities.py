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
    def beside(sampling: SamplingConfig) -> Priorities:
        """For a learner beside the acting process, both on the CPU. Half of the work of a frame is learning,
        a quarter acting, the rest is done by the environments."""
        cores = usable_cores()
        return Priorities(
            acting_threads=max(1, cores // 4),
            learner_threads=sampling.learner_main_loop_num_cores or max(1, cores // 2),
            learner_niceness=LEARNER_NICENESS,
        )

    @staticmethod
    def in_turn(sampling: SamplingConfig, *, has_images: bool) -> Priorities:
        """For a learner that trains while nobody acts. Layers of perceptrons are too small to be shared among
        threads: waking these costs more than they do."""
        threads = sampling.learner_main_loop_num_cores or (usable_cores() if has_images else 1)
        return Priorities(acting_threads=1, learner_threads=threads, learner_niceness=0)
