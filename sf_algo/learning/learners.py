"""Where policies are trained: in the calling thread, in threads, or in a process of their own.

All offer the same few methods, so the samplers need not know which.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from sf_algo.acting.policy_sampling import PolicySampling
from sf_algo.batcher import FullBatch
from sf_algo.learner.learner import Learner
from sf_algo.learner.stats import TrainStats
from sf_algo.plain import cloned
from sf_algo.processes.torch_threads import TorchThreads
from sf_algo.timing import ProcessTimes, Stage


@dataclass(frozen=True, kw_only=True)
class TrainedBatch:
    """What one iteration of one policy's learner came to."""

    policy_id: int
    stats: TrainStats
    valid_steps: int
    """Steps of this policy in the batch that agents really took."""
    seconds: float


TrainedSink = Callable[[TrainedBatch], None]


class Learners(Protocol):
    """The learners of all policies of a run."""

    def train_ready(self) -> None:
        """Has full batches trained on, at once or elsewhere."""

    def poll(self, timeout_s: float) -> None:
        """Takes note of what has been trained elsewhere, waiting at most so long for it. Raises what went
        wrong there."""

    def state(self, policy_id: int) -> Mapping[str, Any]:
        """A copy of the learner's state between two iterations."""

    def load(self, policy_id: int, state: Mapping[str, Any]) -> int:
        """Goes on from a state; the acting weights follow. Returns the policy version.

        Raises:
            CheckpointMismatchError: it belongs to another network.
        """

    def process_times(self) -> Sequence[ProcessTimes]:
        """See `Timed`."""

    @property
    def training_s(self) -> float:
        """Seconds spent training so far, the mean over learners that run at the same time."""

    def close(self) -> None:
        """Ends them; a training under way may be completed first. May be called twice."""


class LocalLearners:
    """Trains in the thread that calls."""

    def __init__(
        self,
        policies: Sequence[PolicySampling],
        learners: Sequence[Learner],
        *,
        env_steps: Callable[[], int],
        is_enough: Callable[[int], bool],
        on_trained: TrainedSink,
        threads: TorchThreads | None = None,
    ) -> None:
        """`is_enough(steps)` says whether the training reaches its limit with so many steps more: once it has, no
        batch is begun. `on_trained` is called after each iteration, when its batch is free and its weights act.
        `threads`: how many for training and for everything else; None leaves torch's settings alone."""
        self._policies = policies
        self._learners = learners
        self._env_steps = env_steps
        self._is_enough = is_enough
        self._on_trained = on_trained
        self._threads = threads
        self.training_s = 0.0
        if threads is not None:
            torch.set_num_threads(threads.acting)

    def train_ready(self) -> None:
        for policy in self._policies:
            while self.train_one(policy):
                pass

    def train_one(self, policy: PolicySampling) -> bool:
        """Trains a policy on its oldest full batch; False where there is none, or no need."""
        full = None if self._is_enough(0) else policy.batcher.take()
        if full is None:
            return False
        began = time.monotonic()
        learner = self._learners[policy.policy_id]
        stats = self._train(learner, full)
        policy.batcher.give_back(full.batch)
        policy.inference.take_weights(learner.model, stats.policy_version)
        seconds = time.monotonic() - began
        self.training_s += seconds
        self._on_trained(
            TrainedBatch(policy_id=policy.policy_id, stats=stats, valid_steps=full.valid_steps, seconds=seconds)
        )
        return True

    def _train(self, learner: Learner, full: FullBatch) -> TrainStats:
        if self._threads is None:
            return learner.train(full.batch, env_steps=self._env_steps())
        torch.set_num_threads(self._threads.learner)
        try:
            return learner.train(full.batch, env_steps=self._env_steps())
        finally:
            torch.set_num_threads(self._threads.acting)

    def poll(self, timeout_s: float) -> None:
        pass

    def process_times(self) -> Sequence[ProcessTimes]:
        return [ProcessTimes(name="main process", pid=os.getpid(), busy_s={Stage.LEARNING: self.training_s})]

    def state(self, policy_id: int) -> Mapping[str, Any]:
        state: Mapping[str, Any] = cloned(self._learners[policy_id].state_dict())
        return state

    def load(self, policy_id: int, state: Mapping[str, Any]) -> int:
        learner = self._learners[policy_id]
        learner.load_state_dict(state)
        self._policies[policy_id].inference.take_weights(learner.model, learner.policy_version)
        return learner.policy_version

    def close(self) -> None:
        pass
