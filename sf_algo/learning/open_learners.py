"""Opens the learners where the plan wants them, and the policies that act for them."""

from __future__ import annotations

import base64
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from sf_algo.acting.policy_sampling import PolicySampling
from sf_algo.buffers.layout import TrajectoryLayout
from sf_algo.config import Config
from sf_algo.config.store import config_to_dict
from sf_algo.envs.spec import EnvSpec
from sf_algo.ipc.doorbell import Doorbell
from sf_algo.learner.batch import TrajectoryBatch
from sf_algo.learning.build import (
    batch_allocator,
    build_policy_learner,
    build_policy_model,
    build_policy_sampling,
    layout_of,
)
from sf_algo.learning.learner_settings import LearnerSettings
from sf_algo.learning.learner_threads import ThreadLearners
from sf_algo.learning.learners import Learners, LocalLearners, TrainedSink
from sf_algo.learning.remote_learners import RemoteLearners
from sf_algo.learning.remote_memory import LearnerMemory
from sf_algo.model.actor_critic import ActorCritic
from sf_algo.plan import SamplerPlan
from sf_algo.processes.copies import ForkedCopy
from sf_algo.processes.torch_threads import TorchThreads


@dataclass(frozen=True, kw_only=True)
class RunBasis:
    """What a run is about: fixed before anything of it is opened."""

    config: Config
    spec: EnvSpec
    plan: SamplerPlan
    device: torch.device
    seed: int

    @property
    def pickled_spec(self) -> str:
        """The spec as text, for child processes."""
        return base64.b64encode(pickle.dumps(self.spec)).decode()

    def models(self) -> list[ActorCritic]:
        """A network for every policy. Raises ModelError where the flags do not fit the observations."""
        return [
            build_policy_model(self.config, self.spec, self.device, policy_id=p, run_seed=self.seed)
            for p in range(self.plan.num_policies)
        ]


@dataclass(frozen=True, kw_only=True)
class OpenLearners:
    """The learners, and the policies that act with their weights."""

    policies: Sequence[PolicySampling]
    learners: Learners
    layout: TrajectoryLayout
    bell: Doorbell
    """Rung by the learners when there is news; the hub sleeps on it."""

    def close(self) -> None:
        self.learners.close()
        self.bell.close()


def open_learners(
    basis: RunBasis,
    models: Sequence[ActorCritic],
    *,
    env_steps: Callable[[], int],
    is_enough: Callable[[int], bool],
    on_trained: TrainedSink,
    forked_copy: ForkedCopy | None = None,
) -> OpenLearners:
    """Starts the learners; `models` (from the basis) become the acting networks. `forked_copy` becomes the learner
    process, in place of a new process; it is let go where there is no learner process.

    On a CPU, learners that train at the same time as others act get a process of their own. On a GPU they are
    threads, because a second process would need a second context and the weights would have to travel.
    """
    layout = layout_of(basis.spec, basis.plan, models[0])
    bell = Doorbell.create()
    if basis.plan.mode.learns_aside and wants_process(basis.device):
        return _open_remote(
            basis,
            models,
            layout,
            bell,
            env_steps=env_steps,
            is_enough=is_enough,
            on_trained=on_trained,
            forked_copy=forked_copy,
        )
    if forked_copy is not None:
        forked_copy.let_go()
    learners = [
        build_policy_learner(basis.config, basis.spec, basis.device, policy_id=p, run_seed=basis.seed)
        for p in range(basis.plan.num_policies)
    ]
    aside = basis.plan.mode.learns_aside
    # One thread that acts and learns in turn needs one set of weights only.
    acting = models if aside else [learner.model for learner in learners]
    policies = _policies(basis, acting, [batch_allocator(basis.spec, basis.plan, m, basis.device) for m in acting])
    threads = None
    if basis.device.type == "cpu":
        has_images = any(obs.is_image for obs in basis.spec.obs.values())
        threads = TorchThreads.in_turn(basis.config.sampling, has_images=has_images)
    local = LocalLearners(
        policies,
        learners,
        env_steps=env_steps,
        # In turns, what has been collected is trained on: a resume must find nothing half-way.
        is_enough=is_enough if aside else lambda steps: False,
        on_trained=on_trained,
        threads=threads,
    )
    if not aside:
        return OpenLearners(policies=policies, learners=local, layout=layout, bell=bell)
    beside = ThreadLearners(policies, local, on_room=bell.ring)
    return OpenLearners(policies=policies, learners=beside, layout=layout, bell=bell)


def wants_process(device: torch.device) -> bool:
    """Whether learners that train beside the acting process get a process of their own."""
    return device.type == "cpu"


def _open_remote(
    basis: RunBasis,
    models: Sequence[ActorCritic],
    layout: TrajectoryLayout,
    bell: Doorbell,
    *,
    env_steps: Callable[[], int],
    is_enough: Callable[[int], bool],
    on_trained: TrainedSink,
    forked_copy: ForkedCopy | None,
) -> OpenLearners:
    plan = basis.plan
    memory = LearnerMemory(models, layout, num_buffers=plan.num_batch_buffers, trajectories=plan.batch_trajectories)
    policies = _policies(basis, models, [batches.allocator() for batches in memory.batches])
    threads = TorchThreads.beside(basis.config.sampling)
    torch.set_num_threads(threads.acting)
    remote = RemoteLearners(
        memory,
        policies,
        _remote_settings(basis, threads),
        bell=bell,
        env_steps=env_steps,
        is_enough=is_enough,
        on_trained=on_trained,
        forked_copy=forked_copy,
    )
    return OpenLearners(policies=policies, learners=remote, layout=layout, bell=bell)


def _remote_settings(basis: RunBasis, threads: TorchThreads) -> LearnerSettings:
    return LearnerSettings(
        config=config_to_dict(basis.config),
        app=basis.config.app,
        pickled_spec=basis.pickled_spec,
        seed=basis.seed,
        num_buffers=basis.plan.num_batch_buffers,
        batch_fds=(),
        weights_fds=(),
        state_fd=-1,
        command_fd=-1,
        message_fd=-1,
        hub_fds=(-1, -1),
        lifeline_fd=-1,
        trace_fd=-1,
        num_threads=threads.learner,
    )


def _policies(
    basis: RunBasis, models: Sequence[ActorCritic], allocators: Sequence[Callable[[], TrajectoryBatch]]
) -> list[PolicySampling]:
    return [
        build_policy_sampling(basis.spec, basis.plan, model, basis.device, allocate, policy_id=p, run_seed=basis.seed)
        for p, (model, allocate) in enumerate(zip(models, allocators, strict=True))
    ]
