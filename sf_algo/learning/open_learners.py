"""Opens the learners where the plan wants them, and the policies that act for them."""

from __future__ import annotations

import base64
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from sf_algo.acting.policies import ActingPolicy, TrainedPolicy
from sf_algo.batcher import Batcher, RoundBatcher
from sf_algo.buffers.layout import TrajectoryLayout
from sf_algo.config import Config
from sf_algo.config.store import config_to_dict
from sf_algo.envs.spec import EnvSpec
from sf_algo.ipc.doorbell import Doorbell
from sf_algo.learning.build import (
    batch_allocator,
    build_inference,
    build_policy_learner,
    build_policy_model,
    layout_of,
)
from sf_algo.learning.learner_settings import LearnerSettings
from sf_algo.learning.learners import Learners, LocalLearners, Recall, TrainedSink, nothing_known
from sf_algo.learning.remote_learner import RemoteLearner
from sf_algo.learning.remote_learners import RemoteLearners
from sf_algo.learning.remote_memory import LearnerMemory
from sf_algo.model.actor_critic import ActorCritic
from sf_algo.model.work import work_of
from sf_algo.plan import SamplerPlan
from sf_algo.processes.copies import ForkedCopy
from sf_algo.processes.torch_threads import TorchThreads
from sf_algo.timing import Stage


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

    @property
    def has_matches(self) -> bool:
        """Agents of one environment may follow different policies, and end their episodes together."""
        return self.plan.num_agents > 1 and self.plan.num_acting > 1 and not self.spec.autoreset

    def device_of(self, policy_id: int, learner: int = 0) -> torch.device:
        """Where a policy acts and its first learner is; where another of its learners is. They are dealt out to the
        devices in turn."""
        if self.device.type != "cuda":
            return self.device
        place = policy_id * self.config.sampling.num_learners + learner
        return torch.device("cuda", place % torch.cuda.device_count())

    def work_per_frame(self, model: ActorCritic) -> dict[Stage, float]:
        """Floating-point operations of a frame's products, where `model` acts and where it is trained."""
        rl, work, frames = self.config.rl, work_of(model, self.spec), self.spec.frameskip
        # The value behind the last row of each trajectory takes one more pass.
        learning = rl.ppo_epochs * (work.learning + work.acting / rl.rollout)
        return {Stage.INFERENCE: work.acting / frames, Stage.LEARNING: learning / frames}

    def models(self) -> list[ActorCritic]:
        """A network for every policy that acts. Raises ModelError where the flags do not fit the observations."""
        return [
            build_policy_model(self.config, self.spec, self.device_of(p), policy_id=p, run_seed=self.seed)
            for p in range(self.plan.num_acting)
        ]


@dataclass(frozen=True, kw_only=True)
class OpenLearners:
    """The learners, and the policies that act."""

    trained: Sequence[TrainedPolicy]
    """Act with the weights of the learners."""
    acting: Sequence[ActingPolicy]
    """All by their ids: those in training, and opponents."""
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
    forked_copies: Sequence[ForkedCopy] = (),
    recall: Recall = nothing_known,
) -> OpenLearners:
    """Starts the learners; `models` (from the basis) become the acting networks. `forked_copies` become the learner
    processes, in place of new processes; they are let go where there are no learner processes. `recall` helps those
    that take the place of dead ones.

    Learners that train at the same time as others act get a process each, on CPUs and on GPUs: what launches work for a
    GPU needs the interpreter as much as what computes.
    """
    layout = layout_of(basis.spec, basis.plan, models[0])
    bell = Doorbell.create()
    if basis.plan.mode.learns_aside:
        return _open_remote(
            basis,
            models,
            layout,
            bell,
            env_steps=env_steps,
            is_enough=is_enough,
            on_trained=on_trained,
            forked_copies=forked_copies,
            recall=recall,
        )
    for forked_copy in forked_copies:
        forked_copy.let_go()
    learners = [
        build_policy_learner(basis.config, basis.spec, basis.device_of(p), policy_id=p, run_seed=basis.seed)
        for p in range(basis.plan.num_policies)
    ]
    # One thread that acts and learns in turn needs one set of weights only.
    models = [*(learner.model for learner in learners), *models[len(learners) :]]
    acting = _acting(basis, models)
    trained = [_in_turn(basis, acting[p], learner.model) for p, learner in enumerate(learners)]
    has_images = any(obs.is_image for obs in basis.spec.obs.values())
    on_gpu = basis.device.type == "cuda"
    threads = TorchThreads.in_turn(basis.config.sampling, has_images=has_images, on_gpu=on_gpu)
    local = LocalLearners(
        trained,
        learners,
        env_steps=env_steps,
        on_trained=on_trained,
        threads=threads,
    )
    return OpenLearners(trained=trained, acting=acting, learners=local, layout=layout, bell=bell)


def _open_remote(
    basis: RunBasis,
    models: Sequence[ActorCritic],
    layout: TrajectoryLayout,
    bell: Doorbell,
    *,
    env_steps: Callable[[], int],
    is_enough: Callable[[int], bool],
    on_trained: TrainedSink,
    forked_copies: Sequence[ForkedCopy],
    recall: Recall,
) -> OpenLearners:
    plan = basis.plan
    memories = [
        LearnerMemory(
            model, layout, policy_id=p, num_buffers=plan.num_batch_buffers, trajectories=plan.batch_trajectories
        )
        for p, model in enumerate(models[: plan.num_policies])
    ]
    acting = _acting(basis, models)
    trained = [_beside(basis, acting[p], memory) for p, memory in enumerate(memories)]
    each = basis.config.sampling.num_learners
    threads = TorchThreads.beside(
        basis.config.sampling, num_learners=plan.num_policies * each, on_gpu=basis.device.type == "cuda"
    )
    torch.set_num_threads(threads.acting)
    learners = [
        RemoteLearner(
            memory,
            policy,
            _remote_settings(basis, policy.policy_id, threads),
            name="the learner" if plan.num_policies == 1 else f"the learner of policy {policy.policy_id}",
            bell=bell,
            on_trained=on_trained,
            devices=[basis.device_of(policy.policy_id, learner) for learner in range(each)],
            forked_copies=forked_copies[p * each : (p + 1) * each],
            recall=recall,
        )
        for p, (memory, policy) in enumerate(zip(memories, trained, strict=True))
    ]
    remote = RemoteLearners(trained, learners, env_steps=env_steps, is_enough=is_enough)
    return OpenLearners(trained=trained, acting=acting, learners=remote, layout=layout, bell=bell)


def _remote_settings(basis: RunBasis, policy_id: int, threads: TorchThreads) -> LearnerSettings:
    return LearnerSettings(
        config=config_to_dict(basis.config),
        app=basis.config.app,
        pickled_spec=basis.pickled_spec,
        policy_id=policy_id,
        device=str(basis.device_of(policy_id)),
        rank=0,
        rendezvous_fd=-1,
        seed=basis.seed,
        num_buffers=basis.plan.num_batch_buffers,
        batch_fd=-1,
        weights_fd=-1,
        state_fd=-1,
        command_fd=-1,
        message_fd=-1,
        hub_fds=(-1, -1),
        lifeline_fd=-1,
        trace_fd=-1,
        num_threads=threads.learner,
    )


def _acting(basis: RunBasis, models: Sequence[ActorCritic]) -> list[ActingPolicy]:
    """All that act, with these networks."""
    return [
        ActingPolicy(
            policy_id=p,
            inference=build_inference(
                basis.spec,
                basis.plan,
                model,
                basis.device_of(p),
                policy_id=p,
                run_seed=basis.seed,
                graphs=basis.config.sampling.cuda_graphs,
            ),
        )
        for p, model in enumerate(models)
    ]


def _in_turn(basis: RunBasis, acting: ActingPolicy, model: ActorCritic) -> TrainedPolicy:
    """A policy that is trained between two rounds of sampling."""
    plan, inference = basis.plan, acting.inference
    batcher = RoundBatcher(
        policy_id=acting.policy_id,
        trajectories=plan.batch_trajectories,
        most_trajectories=plan.most_batch_trajectories,
        version=lambda: inference.policy_version,
        allocate=batch_allocator(basis.spec, plan, model, basis.device_of(acting.policy_id)),
    )
    return TrainedPolicy(policy_id=acting.policy_id, inference=inference, batcher=batcher)


def _beside(basis: RunBasis, acting: ActingPolicy, memory: LearnerMemory) -> TrainedPolicy:
    """A policy that is trained while sampling goes on."""
    batcher = Batcher(
        policy_id=acting.policy_id,
        trajectories=basis.plan.batch_trajectories,
        num_buffers=basis.plan.num_batch_buffers,
        allocate=memory.batches.allocator(),
    )
    return TrainedPolicy(policy_id=acting.policy_id, inference=acting.inference, batcher=batcher)
