"""Who runs where and how much memory they share: derived once from the configuration, pure arithmetic.

Shape letters: N trajectories of a slot (agents of a split), B trajectories of a training iteration, T
rollout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from sf_algo.config import LearnerConfig, SamplingConfig
from sf_algo.envs.spec import EnvSpec

GOOD_INFERENCE_BATCH = 64
"""More agents in one forward pass on a CPU hardly make it cheaper per agent; 8 cost twice as much."""
GPU_INFERENCE_BATCH = 256
"""A GPU takes about as long for few agents as for that many."""


class Mode(Enum):
    """How sampling and learning share the machine."""

    SERIAL = "serial"
    """Everything in one thread of one process; reproducible."""
    PIPELINED = "pipelined"
    """One process steps all environments and acts, while the learner trains beside it."""
    SYNC = "synchronous"
    """Workers step environments; inference and learning take turns in the main process, without policy lag."""
    ASYNC = "asynchronous"
    """Workers step environments, the main process acts, the learner trains beside it."""

    @property
    def has_workers(self) -> bool:
        return self in (Mode.SYNC, Mode.ASYNC)

    @property
    def learns_aside(self) -> bool:
        """Training goes on at the same time as sampling."""
        return self in (Mode.PIPELINED, Mode.ASYNC)


@dataclass(frozen=True, kw_only=True)
class SamplerPlan:
    """The shape of the sampler."""

    mode: Mode
    num_workers: int
    num_splits: int
    envs_per_split: int
    num_agents: int
    slots_per_split: int
    rollout: int
    num_policies: int
    """Policies in training."""
    num_opponents: int = 0
    """Further policies that only act, at a time."""
    batch_trajectories: int
    """B: trajectories that one call of the learner trains on; the fewest, where sampling and learning take turns."""
    num_batch_buffers: int
    """Batches that exist at a time where the learner trains beside the sampling: one in training, the others filling or
    waiting."""
    good_inference_batch: int = GOOD_INFERENCE_BATCH
    """Agents in one forward pass beyond which each hardly gets cheaper."""

    @property
    def num_acting(self) -> int:
        """Policies that act."""
        return self.num_policies + self.num_opponents

    @property
    def slot_trajectories(self) -> int:
        """N."""
        return self.envs_per_split * self.num_agents

    @property
    def total_trajectories(self) -> int:
        """Agents of the whole run: trajectories of one round of rollouts."""
        return self.num_workers * self.num_splits * self.slot_trajectories

    @property
    def inference_target(self) -> int:
        """Agents worth waiting for before a forward pass: half of all can be waiting while the rest step."""
        share = self.total_trajectories if self.num_splits == 1 else self.total_trajectories // 2
        return max(1, min(self.good_inference_batch, share))

    @property
    def most_batch_trajectories(self) -> int:
        """What a batch may grow to where sampling and learning take turns. Of several policies nobody knows how much of
        a round each of them acts in: it may be everything, after all but one trajectory of a batch."""
        even = self.num_acting == 1 and self.batch_trajectories % self.total_trajectories == 0
        return self.batch_trajectories + (0 if even else self.total_trajectories - 1)

    def rounds_to_fill(self, collected: int) -> int:
        """Rounds of rollouts after which a policy that has `collected` trajectories may have a batch at the earliest,
        because it acted in everything."""
        return max(1, math.ceil((self.batch_trajectories - collected) / self.total_trajectories))


def make_plan(sampling: SamplingConfig, rl: LearnerConfig, spec: EnvSpec, *, on_gpu: bool = False) -> SamplerPlan:
    """The plan for a checked configuration (splits divide the environments, rollouts the batch)."""
    if sampling.serial_mode:
        mode = Mode.PIPELINED if sampling.async_rl else Mode.SERIAL
    else:
        mode = Mode.ASYNC if sampling.async_rl else Mode.SYNC
    num_envs = sampling.num_workers * sampling.num_envs_per_worker
    single = not mode.has_workers
    waiting = rl.num_minibatches_to_accumulate
    iterations = 2 if waiting < 0 else 1 + math.ceil(waiting / rl.num_batches_per_iteration)
    envs_per_split = num_envs if single else sampling.num_envs_per_worker // sampling.worker_num_splits
    batch_trajectories = rl.batch_size * rl.num_batches_per_iteration // rl.rollout
    # A slot is copied as a whole: all of it must fit beside the batch in training.
    slot = envs_per_split * spec.num_agents
    fewest = max(2, 1 + math.ceil(slot / batch_trajectories))
    if waiting == 0 and batch_trajectories % slot == 0 and sampling.acts_as_one:
        fewest = 1  # whole slots make up the batch, so nothing is left over that would need room while it is trained on
    return SamplerPlan(
        mode=mode,
        num_workers=1 if single else sampling.num_workers,
        num_splits=1 if single else sampling.worker_num_splits,
        envs_per_split=envs_per_split,
        num_agents=spec.num_agents,
        slots_per_split=1 if single else max(2, math.ceil(sampling.traj_buffers_excess_ratio)),
        rollout=rl.rollout,
        num_policies=sampling.num_policies,
        num_opponents=sampling.num_opponents,
        batch_trajectories=batch_trajectories,
        num_batch_buffers=max(fewest, iterations),
        good_inference_batch=GPU_INFERENCE_BATCH if on_gpu else GOOD_INFERENCE_BATCH,
    )
