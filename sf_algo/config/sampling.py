"""How experience is collected: workers, splits, policies, lag and supervision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sf_algo.config.flag import computed_flag, flag
from sf_algo.cpus import usable_cpus

_SECONDS = "it is a length of time in seconds"


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Topology of the sampler and rules between sampler and learner."""

    async_rl: bool = flag(True, "collect experience while the learner trains; False: in turns, without policy lag")
    serial_mode: bool = flag(
        False,
        "environments in the main process, without workers: best for very cheap ones. With async_rl=False "
        "it is bit-reproducible with a seed, with async_rl=True the learner trains beside it in a process "
        "of its own",
    )
    num_workers: int = computed_flag(
        usable_cpus,
        "rollout worker processes",
        default_text="the cores at hand, 2 fewer where a GPU computes",
        at_least=1,
        why="somebody has to step the environments",
    )
    num_envs_per_worker: int = flag(
        2,
        "environments in each worker",
        at_least=1,
        why="a worker without environments does nothing",
        default_text="2, or as many as make 32 over all workers; with a GPU 512, but 16 to 32 each",
    )
    worker_num_splits: int = flag(
        2,
        "groups of a worker's environments: one is stepped while the other waits for its actions",
        at_least=1,
        at_most=8,
        why="2 hide the wait for actions; more only cut the inference batches smaller",
        default_text="2; 1 where sampling and learning take turns",
    )
    cuda_graphs: bool = flag(
        False,
        "record forward passes on GPUs as CUDA graphs: one call starts a pass instead of 60 to 80; what cannot be "
        "recorded, or computes something else then, is launched as without",
    )
    num_learners: int = flag(
        1,
        "learner processes of each policy, which share out every minibatch and make the same step as one; on GPUs "
        "each has one of its own",
        at_least=1,
        why="somebody has to learn",
        aliases=("learners_per_policy",),
    )
    num_policies: int = flag(1, "policies trained side by side", at_least=1, why="there is something to train")
    policy_workers_per_policy: int = flag(
        1,
        "inference workers for each policy; without effect",
        at_least=1,
        idle="one batched pass serves all requests of a policy",
    )
    max_policy_lag: int = flag(
        10_000,
        "samples older than this many policy updates are not trained on",
        at_least=1,
        why="experience is always at least a little older than the policy it trains",
    )
    traj_buffers_excess_ratio: float = flag(
        1.3,
        "trajectory slots beyond the number in flight, so that sampling goes on during training",
        at_least=1,
        why="below 1 some environments would have nowhere to write",
    )
    decorrelate_experience_max_seconds: float = flag(
        10,
        "workers start over this span (s) so that their episodes do not run in step; 0: all at once",
        at_least=0,
    )
    decorrelate_envs_on_one_worker: bool = flag(True, "spread the environments of one worker over an episode, too")
    pbt_mix_policies_in_one_env: bool = flag(
        True, "with several policies, agents of one environment may follow different ones"
    )

    self_play: Literal["current", "past", "mix"] = flag(
        "current",
        "whom policies meet in environments of several agents. current: each other and themselves as they are; past: "
        "in every match one agent (of several roles: one role) follows a policy in training, the others earlier selves "
        "with frozen weights; mix: so in a part of the matches",
    )
    self_play_fraction: float = flag(
        0.5, "with self_play=mix: share of the matches against earlier selves", at_least=0, at_most=1
    )
    self_play_pool: int = flag(
        10, "earlier selves that are kept, spread over the training", at_least=1, why="somebody has to be the opponent"
    )
    self_play_opponents: int = flag(
        1,
        "earlier selves that play at a time; each costs a further forward pass",
        at_least=1,
        why="somebody has to be the opponent",
    )
    self_play_choice: Literal["uniform", "hard"] = flag(
        "uniform", "which earlier self plays next: all equally often, or rather those that win"
    )
    self_play_period_env_steps: int = flag(
        1_000_000, "frames of a policy between two of its earlier selves in the pool", at_least=1
    )

    train_in_background_thread: bool = flag(
        True,
        "learn beside the inference; without effect",
        idle="async_rl decides whether the learner works beside the sampler",
    )
    set_workers_cpu_affinity: bool = flag(True, "pin every worker to its share of the cores")
    force_envs_single_thread: bool = flag(False, "limit numerical libraries inside environments to one thread")
    default_niceness: int = flag(
        0, "niceness of the rollout workers", at_least=-20, at_most=19, why="the kernel knows -20 to 19"
    )
    learner_main_loop_num_cores: int = flag(
        0, "threads of the learner on a CPU; 0: what suits the cores at hand", at_least=0
    )
    actor_worker_gpus: tuple[int, ...] = flag(
        (),
        "GPUs that environments may render on; without effect",
        idle="no environment of this version renders on a GPU",
    )
    reset_timeout_seconds: float = flag(120, "longest wait for an environment to start (s)", above=0, why=_SECONDS)
    heartbeat_interval: float = flag(20, "time between two signs of life of every process (s)", above=0, why=_SECONDS)

    @property
    def num_opponents(self) -> int:
        """Policies that only act, at a time."""
        return 0 if self.self_play == "current" else self.self_play_opponents

    @property
    def acts_as_one(self) -> bool:
        """All agents follow the same policy."""
        return self.num_policies == 1 and self.num_opponents == 0
