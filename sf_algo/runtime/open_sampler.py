"""Opens the sampler that the plan asks for."""

from __future__ import annotations

import base64
import logging
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sf_algo.buffers.layout import TrajectoryLayout
from sf_algo.config import Config
from sf_algo.config.store import config_to_dict
from sf_algo.envs.spec import EnvSpec
from sf_algo.rollout.cores import worker_cores
from sf_algo.rollout.env_maker import EnvMaker
from sf_algo.rollout.env_set import EnvFault
from sf_algo.rollout.episodes import EpisodeReport
from sf_algo.rollout.settings import WorkerSettings
from sf_algo.runtime.hub import SamplingHub
from sf_algo.runtime.plan import Mode, SamplerPlan
from sf_algo.runtime.priorities import Priorities
from sf_algo.runtime.samplers import AsyncSampler, Sampler, SyncSampler
from sf_algo.runtime.serial import SerialSampler, restored_state
from sf_algo.runtime.stopping import StopCondition
from sf_algo.runtime.team import PolicyTeam, TrainedSink
from sf_algo.runtime.transport import Transport
from sf_algo.runtime.worker_pool import WorkerPool, WorkerTimeouts

log = logging.getLogger(__name__)

MISSED_HEARTBEATS = 3
"""A worker that steps is lost after this many heartbeat intervals without a sign of life."""


@dataclass(frozen=True, kw_only=True)
class SamplerParts:
    """What every kind of sampler is made of."""

    config: Config
    plan: SamplerPlan
    spec: EnvSpec
    layout: TrajectoryLayout
    teams: Sequence[PolicyTeam]
    maker: EnvMaker
    seed: int
    stop: StopCondition
    env_steps: Callable[[], int]
    on_collected: Callable[[int, int], None]
    on_episodes: Callable[[list[EpisodeReport]], None]
    on_trained: TrainedSink


def open_sampler(parts: SamplerParts, state: Mapping[str, Any]) -> Sampler:
    """Starts sampling. `state` is what a serial training saved, or empty.

    Raises:
        StopRequested: the training is to stop already.
        SfAlgoError: environments or workers cannot be started.
    """
    return _open_serial(parts, state) if parts.plan.mode is Mode.SERIAL else _open_parallel(parts)


def _open_serial(parts: SamplerParts, state: Mapping[str, Any]) -> Sampler:
    sampling = parts.config.sampling
    sampler = SerialSampler(
        parts.plan,
        parts.layout,
        parts.spec,
        parts.teams,
        make_env=parts.maker.make,
        seed=parts.seed,
        mix_policies=sampling.pbt_mix_policies_in_one_env,
        warm_up=sampling.decorrelate_experience_max_seconds > 0,
        warm_up_each=sampling.decorrelate_envs_on_one_worker,
        stop=parts.stop,
        env_steps=parts.env_steps,
        on_collected=parts.on_collected,
        on_episodes=parts.on_episodes,
        on_trained=parts.on_trained,
        on_fault=_log_fault,
    )
    try:
        sampler.open(restored_state(state) if state else None)
    except BaseException:
        sampler.close()
        raise
    return sampler


def _log_fault(fault: EnvFault) -> None:
    log.warning("environment %d had broken and was made anew:\n%s", fault.env_index, fault.traceback.rstrip())


def _open_parallel(parts: SamplerParts) -> Sampler:
    sampling, plan = parts.config.sampling, parts.plan
    transport = Transport(plan, parts.layout)
    pool = WorkerPool(
        transport,
        [worker_settings(parts, transport, worker) for worker in range(plan.num_workers)],
        WorkerTimeouts(
            step_s=MISSED_HEARTBEATS * sampling.heartbeat_interval, reset_s=sampling.reset_timeout_seconds
        ),
        on_episodes=parts.on_episodes,
        clean_up=parts.maker.clean_up,
    )
    hub = SamplingHub(
        plan=plan,
        ports=transport.ports,
        teams=parts.teams,
        bell=transport.hub_bell,
        on_collected=parts.on_collected,
    )
    try:
        pool.start()
        if plan.mode is Mode.SYNC:
            return SyncSampler(
                pool,
                hub,
                parts.teams,
                transport,
                stop=parts.stop,
                env_steps=parts.env_steps,
                on_trained=parts.on_trained,
            )
        priorities = Priorities.choose(sampling, parts.teams[0].inference.device)
        return AsyncSampler(
            pool,
            hub,
            parts.teams,
            transport,
            env_steps=parts.env_steps,
            on_trained=parts.on_trained,
            prepare_hub=priorities.prepare_hub,
            prepare_learner=priorities.prepare_learner,
        )
    except BaseException:
        pool.stop()
        transport.close()
        raise


def worker_settings(parts: SamplerParts, transport: Transport, worker: int) -> WorkerSettings:
    """What rollout worker number `worker` is told."""
    config, plan = parts.config, parts.plan
    sampling = config.sampling
    return WorkerSettings(
        worker_index=worker,
        num_workers=plan.num_workers,
        num_splits=plan.num_splits,
        slots_per_split=plan.slots_per_split,
        envs_per_split=plan.envs_per_split,
        rollout=plan.rollout,
        rnn_state_size=parts.layout.by_name["rnn_states"].shape[0],
        num_policies=plan.num_policies,
        mix_policies=sampling.pbt_mix_policies_in_one_env,
        seed=parts.seed,
        config=config_to_dict(config),
        pickled_spec=base64.b64encode(pickle.dumps(parts.spec)).decode(),
        warm_up_s=sampling.decorrelate_experience_max_seconds,
        warm_up_each=sampling.decorrelate_envs_on_one_worker,
        control_fd=transport.control.fd,
        trajectories_fd=transport.trajectories[worker].fd,
        inbox_fds=transport.worker_bells[worker].fds,
        hub_fds=transport.hub_bell.fds,
        message_fd=-1,
        lifeline_fd=transport.lifeline_read,
        trace_fd=-1,
        cores=worker_cores(worker, plan.num_workers) if sampling.set_workers_cpu_affinity else (),
        niceness=sampling.default_niceness,
        single_thread=sampling.force_envs_single_thread,
    )
