"""Sampling in the main process: environments, inference and batching in turn, in one thread."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sf_algo.acting.collecting import Collector
from sf_algo.acting.inference import requests_by_policy
from sf_algo.acting.policies import ActingPolicy, acting_times
from sf_algo.buffers.layout import TrajectoryArrays, TrajectoryLayout
from sf_algo.envs.spec import Env, EnvSpec
from sf_algo.ipc.roster import Roster
from sf_algo.learning.learners import Learners
from sf_algo.plain import to_arrays
from sf_algo.plan import SamplerPlan
from sf_algo.processes.stopping import StopCondition
from sf_algo.rollout.env_set import EnvFault, EnvSet
from sf_algo.rollout.episodes import EpisodeReport, mix_seed
from sf_algo.rollout.policy_draw import PolicyDraw
from sf_algo.rollout.split import EnvSplit
from sf_algo.rollout.split_state import SplitState, WarmUp
from sf_algo.sampling.guard import Activity
from sf_algo.timing import ProcessTimes, Stage

MAX_WARM_UP_STEPS = 128
_ROOM_POLL_S = 0.05


class SerialWatch:
    """Remembers which environment runs, for whoever looks from another thread; may stop the start."""

    def __init__(self, stop: StopCondition) -> None:
        self._stop = stop
        self.starting = True
        self.activity: Activity = (-1, False, time.monotonic())

    def resetting(self, env_index: int) -> None:
        if self.starting:
            self._stop.check()
        self.activity = (env_index, True, time.monotonic())

    def stepping(self, env_index: int) -> None:
        self.activity = (env_index, False, time.monotonic())

    def doing(self) -> tuple[str, float] | None:
        """Which environment is being made or reset, and since when."""
        env_index, is_resetting, since = self.activity
        return (f"environment {env_index} to start", since) if env_index >= 0 and is_resetting else None

    def idle(self) -> None:
        self.activity = (-1, False, time.monotonic())


@dataclass(frozen=True, kw_only=True)
class SerialState:
    """What a serial training depends on beside its learners ("Reproducibility" in docs/architecture.md)."""

    split: SplitState
    unfinished: Sequence[TrajectoryArrays]
    """For every policy, the trajectories collected for its next batch so far."""


class SerialSampler:
    """One split of all environments in one slot; hands full batches to the learners, which train at once
    (serial) or beside it (pipelined)."""

    def __init__(
        self,
        plan: SamplerPlan,
        layout: TrajectoryLayout,
        spec: EnvSpec,
        policies: Sequence[ActingPolicy],
        collector: Collector,
        learners: Learners,
        *,
        make_env: Callable[[int], Env],
        shaping: Callable[[int], Mapping[str, float] | None] | None = None,
        roster: Roster | None = None,
        seed: int,
        mix_policies: bool,
        warm_up: bool,
        warm_up_each: bool,
        stop: StopCondition,
        on_episodes: Callable[[list[EpisodeReport]], None],
        on_fault: Callable[[EnvFault], None],
        on_iteration: Callable[[], None] = lambda: None,
    ) -> None:
        """`policies` are all that act, by their ids; `shaping` is that of a policy. `on_iteration` is called
        when full batches have been handed to the learners."""
        self._policies = policies
        self._learners = learners
        self._stop = stop
        self._collector = collector
        self._on_iteration = on_iteration
        self._on_episodes = on_episodes
        self.watch = SerialWatch(stop)
        self.reproducible = not plan.mode.learns_aside
        """`state` can be told: the training does not depend on timing."""
        envs = EnvSet(
            make_env=make_env,
            env_indices=range(plan.envs_per_split),
            spec=spec,
            seed=seed,
            seed_every_episode=self.reproducible,
            watch=self.watch,
            on_fault=on_fault,
        )
        draw = PolicyDraw(num_policies=plan.num_policies, mix=mix_policies, seed=seed, roles=spec.roles, roster=roster)
        slot = layout.allocate(plan.slot_trajectories)
        self._split = EnvSplit(envs, [slot], policies=draw, remember_actions=self.reproducible, shaping=shaping)
        self._warm_up = WarmUp(
            rng=np.random.default_rng(mix_seed(seed, 0)),
            max_steps=MAX_WARM_UP_STEPS if warm_up else 0,
            each=warm_up_each,
            expired=lambda: stop.reason is not None,
        )
        self.has_begun = False
        self._inference_s = 0.0
        self._stepping_s = 0.0
        self._batching_s = 0.0

    def open(self, state: SerialState | None = None) -> None:
        """Starts the environments, or brings them back to where a checkpoint left them.

        Raises:
            StopRequested: the training is to stop already.
        """
        if state is None:
            self._split.open(0, self._warm_up)
        else:
            self._split.restore(state.split, 0)
            for policy, trajectories in zip(self._collector.policies, state.unfinished, strict=True):
                if trajectories:
                    policy.batcher.add(trajectories)
        self._stop.check()
        self.watch.starting = False

    def work(self, until: float) -> None:
        """Samples and learns until that moment (monotonic clock) or a reason to stop."""
        split, clock = self._split, time.monotonic
        while clock() < until and self._stop.reason is None:
            began = clock()
            for policy, request in requests_by_policy(split.slot, split.row, len(self._policies)):
                self._policies[policy].inference.serve([request])
            served = clock()
            full = split.step()
            self.has_begun = True
            self.watch.idle()
            self._inference_s += served - began
            self._stepping_s += clock() - served
            if split.finished:
                self._on_episodes(split.finished)
                split.finished = []
            if full and not self._collect():
                return

    def _collect(self) -> bool:
        """Hands the full slot over. False where that has to wait until after a stop."""
        slot = self._split.slot
        wanted = self._collector.wanted(slot)
        while (takers := self._collector.takers(wanted)) is None:
            if self._stop.reason is not None:
                return False
            if not self._collector.note_blocked([wanted]):
                self._learners.poll(_ROOM_POLL_S)
        began = time.monotonic()
        self._collector.take(slot, wanted, takers)
        self._split.begin_slot(0)
        self._batching_s += time.monotonic() - began
        self._learners.train_ready()
        self._learners.poll(0.0)
        self._on_iteration()
        return True

    def stage_seconds(self) -> Mapping[str, float]:
        return {"environments": self._stepping_s, "inference": self._inference_s}

    def process_times(self) -> Sequence[ProcessTimes]:
        busy = {Stage.ENVIRONMENT: self._stepping_s, Stage.BATCHING: self._batching_s} | acting_times(self._policies)
        return [ProcessTimes(name="main process", pid=os.getpid(), busy_s=busy)]

    def state(self) -> SerialState:
        """To be saved with the learners, between two calls of `work`."""
        return SerialState(
            split=self._split.state(),
            unfinished=[policy.rounds.unfinished() for policy in self._collector.policies],
        )

    def close(self) -> None:
        self._split.close()


def restored_state(saved: Mapping[str, Any]) -> SerialState:
    """The state that `to_plain(SerialSampler.state())` was, after its trip through a checkpoint."""
    arrays = to_arrays(saved)
    return SerialState(split=SplitState(**arrays["split"]), unfinished=arrays["unfinished"])


def misfit(state: SerialState, plan: SamplerPlan, layout: TrajectoryLayout) -> str:
    """What has changed since that state was saved, so that nobody can go on from it; empty where somebody can."""
    split = state.split
    if len(state.unfinished) != plan.num_policies:
        return "another number of policies than before"
    if len(split.policy_ids) and int(split.policy_ids.max()) >= plan.num_acting:
        return "other opponents than before"
    if len(split.episodes) != plan.envs_per_split or split.policy_ids.shape != (plan.slot_trajectories,):
        return "another number of environments than before"
    if split.row > plan.rollout:
        return "another rollout than before"
    fields = layout.by_name
    for trajectories in (split.slot, *state.unfinished):
        partly = trajectories is split.slot and split.row == 0
        if trajectories and not partly and fields.keys() - trajectories.keys():
            return "other numbers of every step than before"
        for name, array in trajectories.items():
            field = fields.get(name)
            if field is None or array.shape[2:] != field.shape or array.dtype != field.dtype:
                return "other observations or another network than before"
            if partly:
                continue  # one row of it
            if len(array) != layout.shape(field, 1)[0]:
                return "another rollout than before"
    columns = max((array.shape[1] for arrays in state.unfinished for array in arrays.values()), default=0)
    return "a smaller batch than before" if columns >= plan.batch_trajectories else ""
