"""Opens the sampler that the plan asks for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sf_algo.acting.collecting import Collector
from sf_algo.acting.hub import SamplingHub
from sf_algo.buffers.layout import TrajectoryLayout
from sf_algo.config.store import config_to_dict
from sf_algo.ipc.training_board import TrainingBoard
from sf_algo.learning.learners import LocalLearners
from sf_algo.learning.open_learners import OpenLearners, RunBasis
from sf_algo.processes.copies import ForkedCopy
from sf_algo.processes.fork_server import ForkServer
from sf_algo.processes.slow import SlowWatch
from sf_algo.processes.stopping import StopCondition
from sf_algo.rollout.cores import worker_cores
from sf_algo.rollout.env_maker import EnvMaker
from sf_algo.rollout.episodes import EpisodeReport
from sf_algo.rollout.settings import WorkerSettings
from sf_algo.sampling.faults import FaultLog
from sf_algo.sampling.samplers import AsyncSampler, Sampler, SyncSampler
from sf_algo.sampling.serial import SerialSampler, restored_state
from sf_algo.sampling.transport import Transport
from sf_algo.sampling.worker_pool import WorkerPool, WorkerTimeouts

log = logging.getLogger(__name__)

MISSED_HEARTBEATS = 3
"""A worker that steps is lost after this many heartbeat intervals without a sign of life."""


@dataclass(frozen=True, kw_only=True)
class SamplerParts:
    """What every kind of sampler is made of."""

    basis: RunBasis
    learning: OpenLearners
    maker: EnvMaker
    board: TrainingBoard
    """Where environments read of the training."""
    forked_copies: Sequence[ForkedCopy]
    """For rollout workers."""
    fork_server: ForkServer | None
    """For rollout workers that replace others."""
    env_seed: int
    """Environments, episodes and policy draws derive theirs from it; another one in every start that cannot go on in
    the episodes of the one before."""
    stop: StopCondition
    on_collected: Callable[[int, int], None]
    """See `Collector`, and `on_dropped`."""
    on_dropped: Callable[[int, int], None]
    on_episodes: Callable[[list[EpisodeReport]], None]
    on_iteration: Callable[[], None]
    """Where sampling and learning take turns: between two rounds, after what was due has been trained."""
    guard: Callable[[SerialSampler], None]
    """Watches over environments in this process, from their start on."""

    def collector(self) -> Collector:
        return Collector(
            self.learning.trained,
            opponents=self.basis.plan.num_opponents > 0,
            on_collected=self.on_collected,
            on_dropped=self.on_dropped,
        )


def open_sampler(parts: SamplerParts, state: Mapping[str, Any]) -> Sampler:
    """Starts sampling. `state` is what a serial training saved, or empty.

    Raises:
        StopRequested: the training is to stop already.
        SfAlgoError: environments or workers cannot be started.
    """
    return _open_parallel(parts) if parts.basis.plan.mode.has_workers else _open_serial(parts, state)


def _open_serial(parts: SamplerParts, state: Mapping[str, Any]) -> Sampler:
    basis, sampling = parts.basis, parts.basis.config.sampling
    faults = FaultLog()
    sampler = SerialSampler(
        basis.plan,
        parts.learning.layout,
        basis.spec,
        parts.learning.acting,
        parts.collector(),
        parts.learning.learners,
        make_env=parts.maker.with_training(parts.board.info).make,
        shaping=parts.board.shaping,
        roster=parts.board.roster,
        on_iteration=parts.on_iteration,
        seed=parts.env_seed,
        mix_policies=sampling.pbt_mix_policies_in_one_env,
        warm_up=sampling.decorrelate_experience_max_seconds > 0,
        warm_up_each=sampling.decorrelate_envs_on_one_worker,
        stop=parts.stop,
        on_episodes=parts.on_episodes,
        on_fault=lambda fault: faults.add("the main process", fault),
    )
    parts.guard(sampler)
    try:
        with SlowWatch(sampler.watch.doing, lambda line: log.info("%s", line)):
            sampler.open(restored_state(state) if state else None)
    except BaseException:
        sampler.close()
        raise
    return sampler


def _open_parallel(parts: SamplerParts) -> Sampler:
    sampling, plan, learning = parts.basis.config.sampling, parts.basis.plan, parts.learning
    transport = Transport(plan, learning.layout, learning.bell, parts.basis.device)
    for policy in learning.acting:
        policy.inference.slots_locked = transport.slots_locked
    pool = WorkerPool(
        transport,
        [
            worker_settings(
                parts.basis, learning.layout, transport, w, env_seed=parts.env_seed, training_fd=parts.board.fd
            )
            for w in range(plan.num_workers)
        ],
        WorkerTimeouts(
            step_s=MISSED_HEARTBEATS * sampling.heartbeat_interval,
            reset_s=parts.maker.reset_limit_s(sampling.reset_timeout_seconds),
        ),
        on_episodes=parts.on_episodes,
        clean_up=parts.maker.clean_up,
        forked_copies=parts.forked_copies,
        fork_server=parts.fork_server,
        task_of=parts.maker.task,
    )
    hub = SamplingHub(
        plan=plan,
        ports=transport.ports,
        policies=learning.acting,
        collector=parts.collector(),
        bell=learning.bell,
    )
    try:
        pool.start()
        if isinstance(learning.learners, LocalLearners):
            return SyncSampler(pool, hub, learning.learners, transport, parts.stop, parts.on_iteration)
        return AsyncSampler(pool, hub, learning.learners, transport)
    except BaseException:
        pool.stop()
        transport.close()
        raise


def worker_settings(
    basis: RunBasis, layout: TrajectoryLayout, transport: Transport, worker: int, *, env_seed: int, training_fd: int
) -> WorkerSettings:
    """What rollout worker number `worker` is told."""
    config, plan = basis.config, basis.plan
    sampling = config.sampling
    return WorkerSettings(
        worker_index=worker,
        num_workers=plan.num_workers,
        num_splits=plan.num_splits,
        slots_per_split=plan.slots_per_split,
        envs_per_split=plan.envs_per_split,
        rollout=plan.rollout,
        rnn_state_size=layout.by_name["rnn_states"].shape[0],
        num_policies=plan.num_policies,
        num_acting=plan.num_acting,
        mix_policies=sampling.pbt_mix_policies_in_one_env,
        seed=env_seed,
        config=config_to_dict(config),
        app=config.app,
        pickled_spec=basis.pickled_spec,
        warm_up_s=sampling.decorrelate_experience_max_seconds,
        warm_up_each=sampling.decorrelate_envs_on_one_worker,
        control_fd=transport.control.fd,
        training_fd=training_fd,
        trajectories_fd=transport.trajectories[worker].fd,
        inbox_fds=transport.worker_bells[worker].fds,
        hub_fds=transport.hub_bell.fds,
        message_fd=-1,
        lifeline_fd=transport.lifeline.read_fd,
        trace_fd=-1,
        cores=worker_cores(worker, plan.num_workers) if sampling.set_workers_cpu_affinity else (),
        niceness=sampling.default_niceness,
        single_thread=sampling.force_envs_single_thread,
    )
