"""Serial sampling: environments, inference, batching and learning in turn, in one thread of one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from sf_algo.buffers.layout import TrajectoryArrays, TrajectoryLayout
from sf_algo.envs.spec import Env, EnvSpec
from sf_algo.inference.policy import requests_by_policy
from sf_algo.rollout.env_set import EnvFault, EnvSet
from sf_algo.rollout.episodes import EpisodeReport, PolicyDraw, mix_seed
from sf_algo.rollout.split import EnvSplit, SplitState, WarmUp
from sf_algo.runtime.plain import to_arrays
from sf_algo.runtime.plan import SamplerPlan
from sf_algo.runtime.stopping import StopCondition
from sf_algo.runtime.team import PolicyTeam, TrainedSink

T = TypeVar("T")

MAX_WARM_UP_STEPS = 128


class SerialWatch:
    """Remembers which environment runs, for whoever looks from another thread; may stop the start."""

    def __init__(self, stop: StopCondition) -> None:
        self._stop = stop
        self.starting = True
        self.env_index = -1
        self.since = time.monotonic()
        self.is_resetting = False

    def resetting(self, env_index: int) -> None:
        if self.starting:
            self._stop.check()
        self.env_index = env_index
        self.is_resetting = True
        self.since = time.monotonic()

    def stepping(self, env_index: int) -> None:
        self.env_index = env_index
        self.is_resetting = False
        self.since = time.monotonic()

    def idle(self) -> None:
        self.env_index = -1


@dataclass(frozen=True, kw_only=True)
class SerialState:
    """Everything beside the learners that a serial training depends on; see docs/reproducibility."""

    split: SplitState
    unfinished: Sequence[TrajectoryArrays]
    """For every policy, the trajectories collected for its next batch so far."""


class SerialSampler:
    """One split of all environments in one slot; learns whenever a batch is full."""

    def __init__(
        self,
        plan: SamplerPlan,
        layout: TrajectoryLayout,
        spec: EnvSpec,
        teams: Sequence[PolicyTeam],
        *,
        make_env: Callable[[int], Env],
        seed: int,
        mix_policies: bool,
        warm_up: bool,
        warm_up_each: bool,
        stop: StopCondition,
        env_steps: Callable[[], int],
        on_collected: Callable[[int, int], None],
        on_episodes: Callable[[list[EpisodeReport]], None],
        on_trained: TrainedSink,
        on_fault: Callable[[EnvFault], None],
    ) -> None:
        """`on_collected` is told (policy, valid steps) of every full slot."""
        self._plan = plan
        self._teams = teams
        self._stop = stop
        self._env_steps = env_steps
        self._on_collected = on_collected
        self._on_episodes = on_episodes
        self._on_trained = on_trained
        self.watch = SerialWatch(stop)
        envs = EnvSet(
            make_env=make_env,
            env_indices=range(plan.envs_per_split),
            spec=spec,
            seed=seed,
            seed_every_episode=True,
            watch=self.watch,
            on_fault=on_fault,
        )
        policies = PolicyDraw(num_policies=plan.num_policies, mix=mix_policies, seed=seed)
        slot = layout.allocate(plan.slot_trajectories)
        self._split = EnvSplit(envs, [slot], policies=policies, remember_actions=True)
        self._warm_up = WarmUp(
            rng=np.random.default_rng(mix_seed(seed, 0)),
            max_steps=MAX_WARM_UP_STEPS if warm_up else 0,
            each=warm_up_each,
            expired=lambda: stop.reason is not None,
        )
        self._inference_s = 0.0
        self._stepping_s = 0.0
        self._training_s = 0.0

    def open(self, state: SerialState | None = None) -> None:
        """Starts the environments, or brings them back to where a checkpoint left them.

        Raises:
            StopRequested: the training is to stop already.
        """
        if state is None:
            self._split.open(0, self._warm_up)
        else:
            self._split.restore(state.split, 0)
            for team, trajectories in zip(self._teams, state.unfinished, strict=True):
                team.batcher.load_unfinished(trajectories)
        self._stop.check()
        self.watch.starting = False

    def work(self, until: float) -> None:
        """Samples and learns until that moment (monotonic clock) or a reason to stop."""
        split, plan, clock = self._split, self._plan, time.monotonic
        while clock() < until and self._stop.reason is None:
            began = clock()
            for policy, request in requests_by_policy(split.slot, split.row, plan.num_policies):
                self._teams[policy].inference.serve([request])
            served = clock()
            full = split.step()
            self.watch.idle()
            self._inference_s += served - began
            self._stepping_s += clock() - served
            if split.finished:
                self._on_episodes(split.finished)
                split.finished = []
            if full:
                self._collect()

    def _collect(self) -> None:
        for team in self._teams:
            self._on_collected(team.policy_id, team.batcher.add(self._split.slot))
        self._split.begin_slot(0)
        for team in self._teams:
            while (full := team.batcher.take()) is not None:
                trained = team.train(full, self._env_steps())
                self._training_s += trained.seconds
                self._on_trained(trained)

    def call_learner(self, policy_id: int, function: Callable[[], T]) -> T:
        return function()

    def stage_seconds(self) -> Mapping[str, float]:
        return {
            "environments": self._stepping_s,
            "inference": self._inference_s,
            "learner": self._training_s,
        }

    def state(self) -> SerialState:
        """To be saved with the learners, between two calls of `work`."""
        return SerialState(
            split=self._split.state(),
            unfinished=[team.batcher.unfinished() for team in self._teams],
        )

    def close(self) -> None:
        self._split.close()


def restored_state(saved: Mapping[str, Any]) -> SerialState:
    """The state that `to_plain(SerialSampler.state())` was, after its trip through a checkpoint."""
    arrays = to_arrays(saved)
    return SerialState(split=SplitState(**arrays["split"]), unfinished=arrays["unfinished"])
