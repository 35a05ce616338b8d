"""The composition root: builds the pieces of a run from its configuration."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sf_algo.acting.inference import PolicyInference
from sf_algo.buffers.layout import TrajectoryLayout, make_layout
from sf_algo.config import Config
from sf_algo.config.per_policy import policy_rl
from sf_algo.envs.spec import EnvSpec
from sf_algo.errors import ConfigError
from sf_algo.learner.batch import TrajectoryBatch
from sf_algo.learner.extra_losses import ExtraLosses
from sf_algo.learner.learner import Learner
from sf_algo.learner.peers import ALONE, Peers
from sf_algo.model.actor_critic import ActorCritic, make_actor_critic
from sf_algo.model.precision import use_precision
from sf_algo.plan import SamplerPlan
from sf_algo.rollout.episodes import mix_seed

_MODEL_SEED, _ACTOR_SEED, _LEARNER_SEED = 1, 2, 3


def choose_device(name: str, *, num_learners: int = 1) -> torch.device:
    """The device for networks. It may wake CUDA: no process that uses it can be forked from this one afterwards.

    Raises:
        ConfigError: a GPU was asked for and there is none, or fewer than the learners of one policy need.
    """
    if name == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        if num_learners > count:
            raise ConfigError(
                f"--num_learners={num_learners}: each learner of a policy needs a GPU of its own, and there "
                f"{'is 1' if count == 1 else f'are {count}'}; use --num_learners={count} or --device=cpu"
            )
        return torch.device("cuda", torch.cuda.current_device())
    if name == "gpu":
        raise ConfigError("--device=gpu: torch finds no CUDA device; use --device=cpu or --device=auto")
    return torch.device("cpu")


def build_model(config: Config, spec: EnvSpec, device: torch.device, *, seed: int) -> ActorCritic:
    """The network of one policy; the same seed gives the same weights."""
    rl = config.rl
    model = make_actor_critic(
        config.model,
        spec,
        obs_subtract_mean=rl.obs_subtract_mean,
        obs_scale=rl.obs_scale,
        normalize_input=rl.normalize_input,
        normalize_input_keys=rl.normalize_input_keys,
        normalize_returns=rl.normalize_returns,
        seed=seed,
        own=config.own,
    )
    use_precision(model, config.model.precision, device)
    return model.arrange(device)


def build_learner(
    config: Config, model: ActorCritic, device: torch.device, *, policy_id: int, seed: int, peers: Peers = ALONE
) -> Learner:
    """The learner of one policy, or one of them; it trains `model`. Raises ModelError where a loss of the user's cannot
    be imported."""
    sampling = config.sampling
    return Learner(
        policy_id,
        policy_rl(config, policy_id),
        model,
        device=device,
        # In turns nothing older is collected, but the beginning of a trajectory may be from before a resume.
        max_policy_lag=sampling.max_policy_lag if sampling.async_rl else 1,
        batches_vary=not (sampling.async_rl or sampling.acts_as_one),
        seed=seed,
        train_for_env_steps=config.run.env_steps_limit,
        extra_losses=ExtraLosses(config.rl.extra_losses, config.own),
        peers=peers,
    )


def build_policy_model(
    config: Config, spec: EnvSpec, device: torch.device, *, policy_id: int, run_seed: int
) -> ActorCritic:
    """The initial network of a policy of the run: the same wherever it is built."""
    return build_model(config, spec, device, seed=mix_seed(run_seed, _MODEL_SEED, policy_id))


def build_policy_learner(
    config: Config, spec: EnvSpec, device: torch.device, *, policy_id: int, run_seed: int, peers: Peers = ALONE
) -> Learner:
    """The initial learner of a policy of the run: the same wherever it is built."""
    model = build_policy_model(config, spec, device, policy_id=policy_id, run_seed=run_seed)
    seed = mix_seed(run_seed, _LEARNER_SEED, policy_id)
    return build_learner(config, model, device, policy_id=policy_id, seed=seed, peers=peers)


def build_inference(
    spec: EnvSpec,
    plan: SamplerPlan,
    model: ActorCritic,
    device: torch.device,
    *,
    policy_id: int,
    run_seed: int,
    graphs: bool = False,
) -> PolicyInference:
    """Where a policy acts, with `model`. `graphs`: record its passes where the device can."""
    return PolicyInference(
        model,
        spec,
        device=device,
        max_agents=plan.total_trajectories,
        seed=mix_seed(run_seed, _ACTOR_SEED, policy_id),
        graphs=graphs,
    )


def batch_allocator(
    spec: EnvSpec, plan: SamplerPlan, model: ActorCritic, device: torch.device
) -> Callable[[int], TrajectoryBatch]:
    """Makes batches of so many trajectories in this process's own memory."""
    return lambda columns: TrajectoryBatch.allocate(
        spec,
        rollout=plan.rollout,
        num_trajectories=columns,
        rnn_state_size=model.rnn_state_size,
        pin_memory=device.type == "cuda",
    )


def layout_of(spec: EnvSpec, plan: SamplerPlan, model: ActorCritic) -> TrajectoryLayout:
    """What the slots of this run hold."""
    return make_layout(
        obs=spec.obs,
        actions=spec.actions,
        rollout=plan.rollout,
        rnn_state_width=model.rnn_state_size,
        step_fields=spec.step_fields,
    )
