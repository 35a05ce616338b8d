"""Where policies are trained: in the calling thread, or in processes of their own.

All offer the same few methods, so the samplers need not know which.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch

from sf_algo.acting.policies import TrainedPolicy
from sf_algo.batcher import FullBatch
from sf_algo.learner.fit import check_fit
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


@dataclass(frozen=True, kw_only=True)
class KnownState:
    """A learner's state that was kept."""

    name: str
    """Where it was kept, as users are told of it."""
    state: Mapping[str, Any]


TrainedSink = Callable[[TrainedBatch], None]
Recall = Callable[[int], "KnownState | None"]
"""Policy -> the newest state of its learner that is kept anywhere."""
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class PolicyChange:
    """What happens to a policy between two iterations."""

    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Hyperparameters that differ from the flags from now on: name of the flag -> value."""
    donor: Mapping[str, Any] | None = None
    """State of another policy's learner: its weights, normalizers and optimizer replace those of this one."""
    carried: Mapping[str, Any] = field(default_factory=dict)
    """Saved with the learner's state: plain values."""


def change(learner: Learner, what: PolicyChange) -> int:
    """Changes a learner. Returns the policy version.

    Raises:
        CheckpointMismatchError: the donor has another network.
    """
    if what.donor is not None:
        check_fit(learner.model.state_dict(), what.donor["model"])  # before anything changes
    learner.set_overrides(what.overrides)
    if what.donor is not None:
        learner.adopt(what.donor)  # last: an adapted learning rate counts more than where it began
        learner.begin_generation()
    learner.carried = dict(what.carried)
    return learner.policy_version


def nothing_known(policy_id: int) -> KnownState | None:
    """The `Recall` of a training that keeps nothing."""
    return None


def done(function: Callable[[], T]) -> Future[T]:
    """Calls the function at once; what comes of it, as a future."""
    future: Future[T] = Future()
    try:
        future.set_result(function())
    except Exception as error:
        future.set_exception(error)
    return future


class Learners(Protocol):
    """The learners of all policies of a run."""

    def train_ready(self) -> None:
        """Has full batches trained on, at once or elsewhere."""

    def poll(self, timeout_s: float) -> None:
        """Takes note of what has been trained elsewhere, waiting at most so long for it. Raises what went
        wrong there."""

    def ask_state(self, policy_id: int) -> Future[Mapping[str, Any]]:
        """A copy of the learner's state between two iterations."""

    def ask_load(self, policy_id: int, state: Mapping[str, Any]) -> Future[int]:
        """Goes on from a state; the acting weights follow. The answer is the policy version, or a
        CheckpointMismatchError: it belongs to another network."""

    def ask_change(self, policy_id: int, what: PolicyChange) -> Future[int]:
        """Changes a policy between two iterations; the acting weights follow. The answer is the policy version, or a
        CheckpointMismatchError: the donor has another network."""

    def wait(self, policy_id: int, future: Future[T], timeout_s: float | None = None) -> T:
        """The result of what this policy's learner was asked. Raises WorkerError where that learner is dead or does not
        answer in time, and what went wrong."""

    def process_times(self) -> Sequence[ProcessTimes]:
        """See `Timed`."""

    @property
    def training_s(self) -> float:
        """Seconds spent training so far, the mean over learners that run at the same time."""

    def close(self) -> None:
        """Ends them; a training under way may be completed first. May be called twice."""


class LocalLearners:
    """Trains in the thread that calls, between two rounds of sampling."""

    def __init__(
        self,
        policies: Sequence[TrainedPolicy],
        learners: Sequence[Learner],
        *,
        env_steps: Callable[[], int],
        on_trained: TrainedSink,
        threads: TorchThreads | None = None,
    ) -> None:
        """`on_trained` is called after each iteration, when its batch is free and its weights act.
        `threads`: how many for training and for everything else; None leaves torch's settings alone."""
        self._policies = policies
        self._learners = learners
        self._env_steps = env_steps
        self._on_trained = on_trained
        self._threads = threads
        self.training_s = 0.0
        if threads is not None:
            torch.set_num_threads(threads.acting)

    def train_ready(self) -> None:
        """What has been collected is trained on, even beyond the limit of frames: a resume must find nothing
        half-way."""
        for policy in self._policies:
            full = policy.batcher.take()
            if full is not None:
                self._train_on(policy, full)

    def _train_on(self, policy: TrainedPolicy, full: FullBatch) -> None:
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

    def ask_state(self, policy_id: int) -> Future[Mapping[str, Any]]:
        return done(lambda: cloned(self._learners[policy_id].state_dict()))

    def ask_load(self, policy_id: int, state: Mapping[str, Any]) -> Future[int]:
        return done(lambda: self._load(policy_id, state))

    def ask_change(self, policy_id: int, what: PolicyChange) -> Future[int]:
        return done(lambda: self._change(policy_id, what))

    def wait(self, policy_id: int, future: Future[T], timeout_s: float | None = None) -> T:
        return future.result()

    def _load(self, policy_id: int, state: Mapping[str, Any]) -> int:
        learner = self._learners[policy_id]
        learner.load_state_dict(state)
        self._policies[policy_id].inference.take_weights(learner.model, learner.policy_version)
        return learner.policy_version

    def _change(self, policy_id: int, what: PolicyChange) -> int:
        learner = self._learners[policy_id]
        version = change(learner, what)
        self._policies[policy_id].inference.take_weights(learner.model, version)
        if what.donor is not None:
            self._policies[policy_id].rounds.forget()
        return version

    def close(self) -> None:
        pass
