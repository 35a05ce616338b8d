"""Real workers, transport and hub around a fake policy: what tests of sampling without learning need."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, cast

import numpy as np
import torch

from sf_algo.acting.collecting import Collector
from sf_algo.acting.hub import SamplingHub
from sf_algo.acting.inference import ActionRequest
from sf_algo.acting.policies import ActingPolicy, TrainedPolicy
from sf_algo.batcher import Batcher, batch_arrays
from sf_algo.buffers.layout import TrajectoryArrays, make_layout
from sf_algo.config.resolve import parse_args
from sf_algo.ipc.doorbell import Doorbell
from sf_algo.ipc.training_board import TrainingBoard
from sf_algo.learner.batch import TrajectoryBatch
from sf_algo.learning.open_learners import RunBasis
from sf_algo.plan import make_plan
from sf_algo.rollout.env_maker import EnvMaker
from sf_algo.rollout.episodes import EpisodeReport
from sf_algo.sampling.open_sampler import worker_settings
from sf_algo.sampling.transport import Transport
from sf_algo.sampling.worker_pool import WorkerPool, WorkerTimeouts

S = 2


class FakeInference:
    """Acts with the action 1 for ever; marks the recurrent state with the row."""

    def __init__(self) -> None:
        self.num_served = 0

    def begin(self, requests: Sequence[ActionRequest]) -> Sequence[ActionRequest]:
        return requests

    def finish(self, requests: Sequence[ActionRequest]) -> int:
        agents = 0
        for request in requests:
            columns = slice(None) if request.columns is None else request.columns
            request.slot["actions"][request.row][columns] = 1
            request.slot["rnn_states"][request.row + 1][columns] = request.row + 1
            agents += request.num_agents
        self.num_served += agents
        return agents


class FakeTeam:
    """What hub and collector need of a policy."""

    def __init__(self, policy_id: int, batcher: Batcher) -> None:
        self.policy_id = policy_id
        self.inference = FakeInference()
        self.batcher = batcher


class SamplingHarness:
    """Starts workers for a command line; `until` runs hub and supervision until something holds."""

    def __init__(self, *flags: str, step_timeout_s: float = 60.0, reset_timeout_s: float = 60.0) -> None:
        config = parse_args([*flags, "--serial_mode=False"]).config
        maker = EnvMaker(config)
        spec = maker.spec()
        self.plan = make_plan(config.sampling, config.rl, spec)
        layout = make_layout(obs=spec.obs, actions=spec.actions, rollout=self.plan.rollout, rnn_state_width=S)
        self.policies = [
            FakeTeam(
                policy,
                Batcher(
                    policy_id=policy,
                    trajectories=self.plan.batch_trajectories,
                    num_buffers=self.plan.num_batch_buffers,
                    allocate=lambda: TrajectoryBatch.allocate(
                        spec,
                        rollout=self.plan.rollout,
                        num_trajectories=self.plan.batch_trajectories,
                        rnn_state_size=S,
                    ),
                ),
            )
            for policy in range(self.plan.num_policies)
        ]
        self.episodes: list[EpisodeReport] = []
        self.dropped = [0] * self.plan.num_policies
        self.steps = [0] * self.plan.num_policies
        self.bell = Doorbell.create()
        self.transport = Transport(self.plan, layout, self.bell, torch.device("cpu"))
        self.board = TrainingBoard.create(num_acting=self.plan.num_acting, shaping=[])
        basis = RunBasis(config=config, spec=spec, plan=self.plan, device=torch.device("cpu"), seed=5)
        self.pool = WorkerPool(
            self.transport,
            [
                worker_settings(basis, layout, self.transport, w, env_seed=5, training_fd=self.board.fd)
                for w in range(self.plan.num_workers)
            ],
            WorkerTimeouts(step_s=step_timeout_s, reset_s=reset_timeout_s),
            on_episodes=self.episodes.extend,
            clean_up=maker.clean_up,
        )
        self.hub = SamplingHub(
            plan=self.plan,
            ports=self.transport.ports,
            policies=cast("list[ActingPolicy]", self.policies),
            collector=Collector(
                cast("list[TrainedPolicy]", self.policies),
                opponents=False,
                on_collected=self._collected,
                on_dropped=self._dropped,
            ),
            bell=self.bell,
        )
        self.batches: list[TrajectoryArrays] = []

    def _collected(self, policy_id: int, steps: int) -> None:
        self.steps[policy_id] += steps

    def _dropped(self, policy_id: int, trajectories: int) -> None:
        self.dropped[policy_id] += trajectories

    def __enter__(self) -> SamplingHarness:
        self.pool.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pool.stop()
        self.transport.close()
        self.board.close()
        self.bell.close()

    def turn(self) -> None:
        """One turn of hub, supervision and a learner that learns nothing."""
        self.hub.turn(0.02)
        self.pool.listen(0.0)
        for policy in self.policies:
            while (full := policy.batcher.take()) is not None:
                self.batches.append({k: np.array(v) for k, v in batch_arrays(full.batch).items()})
                policy.batcher.give_back(full.batch)

    def until(self, condition: Callable[[], Any], *, what: str, timeout_s: float = 60.0) -> None:
        """Turns until the condition holds; fails loudly when it never does."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"waited {timeout_s:g} s for {what}"
            self.turn()
