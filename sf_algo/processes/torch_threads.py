"""How many threads torch gets in the processes of a training."""

from __future__ import annotations

from dataclasses import dataclass

from sf_algo.config import SamplingConfig
from sf_algo.cpus import usable_cpus


@dataclass(frozen=True, kw_only=True)
class TorchThreads:
    """Threads of torch where it acts and where it learns."""

    acting: int
    learner: int

    @staticmethod
    def beside(sampling: SamplingConfig, *, num_learners: int = 1, on_gpu: bool = False) -> TorchThreads:
        """For learners beside the acting process. On the CPU half of the work of a frame is learning, a quarter acting,
        the rest is done by the environments. Where GPUs compute, threads would only take cores from environments."""
        if on_gpu:
            return TorchThreads(acting=1, learner=1)
        cores = usable_cpus()
        return TorchThreads(
            acting=max(1, cores // 4),
            learner=sampling.learner_main_loop_num_cores or max(1, cores // 2 // num_learners),
        )

    @staticmethod
    def in_turn(sampling: SamplingConfig, *, has_images: bool, on_gpu: bool = False) -> TorchThreads:
        """For a learner that trains while nobody acts. Layers of perceptrons are too small to be shared among
        threads: waking these costs more than they do."""
        if on_gpu:
            return TorchThreads(acting=1, learner=1)
        learner = sampling.learner_main_loop_num_cores or (usable_cpus() if has_images else 1)
        return TorchThreads(acting=1, learner=learner)
