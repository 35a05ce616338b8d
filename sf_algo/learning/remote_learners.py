"""The learner processes of a run, one or several for each policy."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from sf_algo.acting.policies import TrainedPolicy
from sf_algo.learning.learners import PolicyChange
from sf_algo.learning.remote_learner import RemoteLearner
from sf_algo.timing import ProcessTimes, Stage

T = TypeVar("T")


class RemoteLearners:
    """As `Learners` says. One that is slow holds nobody up."""

    def __init__(
        self,
        policies: Sequence[TrainedPolicy],
        learners: Sequence[RemoteLearner],
        *,
        env_steps: Callable[[], int],
        is_enough: Callable[[int], bool],
    ) -> None:
        """`is_enough(steps)` says whether the training reaches its limit with so many steps more: then no further
        batch is handed over, for the end would have to wait for it."""
        self._policies = policies
        self._learners = learners
        self._env_steps = env_steps
        self._is_enough = is_enough

    @property
    def pids(self) -> list[int]:
        """Of the learner processes, by policy; of several of one policy, the first."""
        return [learner.pids[0] for learner in self._learners]

    def process_times(self) -> Sequence[ProcessTimes]:
        taking = sum(policy.inference.taking_s for policy in self._policies)
        return [
            ProcessTimes(name="main process", pid=os.getpid(), busy_s={Stage.LEARNING: taking}),
            *(
                ProcessTimes(name=name, pid=pid, busy_s={Stage.LEARNING: learner.training_s})
                for name, learner in zip(self._names(), self._learners, strict=True)
                for pid in learner.pids
            ),
        ]

    def _names(self) -> list[str]:
        if len(self._policies) == 1:
            return ["learner"]
        return [f"learner {policy.policy_id}" for policy in self._policies]

    def train_ready(self) -> None:
        for learner in self._learners:
            learner.train_ready(self._env_steps, self._enough_under_way)

    def _enough_under_way(self) -> bool:
        return self._is_enough(sum(learner.steps_under_way for learner in self._learners))

    def poll(self, timeout_s: float) -> None:
        if timeout_s > 0:
            select.select([fd for learner in self._learners for fd in learner.message_fds], [], [], timeout_s)
        for learner in self._learners:
            learner.poll()

    def ask_state(self, policy_id: int) -> Future[Mapping[str, Any]]:
        return self._learners[policy_id].ask_state()

    def ask_load(self, policy_id: int, state: Mapping[str, Any]) -> Future[int]:
        return self._learners[policy_id].ask_load(state)

    def ask_change(self, policy_id: int, what: PolicyChange) -> Future[int]:
        return self._learners[policy_id].ask_change(what)

    def wait(self, policy_id: int, future: Future[T], timeout_s: float | None = None) -> T:
        return self._learners[policy_id].wait(future, timeout_s)

    @property
    def training_s(self) -> float:
        return sum(learner.training_s for learner in self._learners) / len(self._learners)

    def close(self) -> None:
        for learner in self._learners:
            learner.stop()
        for learner in self._learners:
            learner.close()
