"""Cross-checks between flags. Every fault is collected, and each says why the limit exists."""

from __future__ import annotations

from collections.abc import Iterator

from sf_algo.config.env import parse_step_field
from sf_algo.config.model import INSTRUCTION_ENCODER
from sf_algo.config.per_policy import check_per_policy
from sf_algo.config.rounds import fills_rounds, nearest_fitting_batch
from sf_algo.config.sections import Config


def cross_check(config: Config) -> list[str]:
    """Everything about the configuration that cannot work, whatever the environment turns out to be."""
    return [*_identity(config), *_lengths(config), *_sampling(config), *_model(config), *_pbt(config)]


def _identity(config: Config) -> Iterator[str]:
    run = config.run
    if not run.env:
        yield "--env is missing: name an environment, for example --env=CartPole-v1 or --env=doom_basic"
    for flag, name in (("experiment", run.experiment), ("experiments_root", run.experiments_root)):
        parts = name.split("/") if name is not None else []
        bad = name == "" or ".." in parts or "" in parts or (flag == "experiment" and len(parts) > 1)
        if bad:
            yield f"--{flag}={name}: must be a plain folder name, because everything is stored under "
            "train_dir"
    if run.save_milestones_sec <= 0 and run.save_milestones_sec != -1:
        yield f"--save_milestones_sec={run.save_milestones_sec:g}: must be greater than 0, or -1 for none"


def _lengths(config: Config) -> Iterator[str]:
    rl = config.rl
    if rl.recurrence not in (1, rl.rollout):
        yield (
            f"--recurrence={rl.recurrence} with --rollout={rl.rollout}: must be the rollout or 1, because "
            "whole trajectories are trained on and the state is stored at their start"
        )
    if config.model.use_rnn and rl.recurrence == 1 and rl.rollout > 1:
        yield (
            f"--recurrence=1 with --use_rnn=True: a recurrent core learns nothing over time then; use "
            f"--recurrence={rl.rollout} or --use_rnn=False"
        )
    if rl.batch_size % rl.rollout:
        lower = rl.batch_size // rl.rollout * rl.rollout
        either = f"{lower} or {lower + rl.rollout}" if lower else str(rl.rollout)
        yield (
            f"--batch_size={rl.batch_size} with --rollout={rl.rollout}: must be a multiple of the rollout, "
            f"because a minibatch consists of whole trajectories; use {either}"
        )
    if rl.lr_adaptive_min > rl.lr_adaptive_max:
        yield (
            f"--lr_adaptive_min={rl.lr_adaptive_min:g} with --lr_adaptive_max={rl.lr_adaptive_max:g}: the "
            "smallest learning rate must not exceed the largest"
        )


def _sampling(config: Config) -> Iterator[str]:
    sampling, rl = config.sampling, config.rl
    if sampling.num_envs_per_worker % sampling.worker_num_splits:
        yield (
            f"--num_envs_per_worker={sampling.num_envs_per_worker} with "
            f"--worker_num_splits={sampling.worker_num_splits}: must be a multiple of the splits, because "
            "the splits of a worker take turns and have to be of equal size"
        )
    if sampling.num_learners > 1 and not sampling.async_rl:
        yield (
            f"--num_learners={sampling.num_learners} with --async_rl=False: where learning takes turns with sampling, "
            "one process does both; use --async_rl=True or --num_learners=1"
        )
    if sampling.num_learners > 1 and sampling.num_learners > rl.batch_size // rl.rollout:
        yield (
            f"--num_learners={sampling.num_learners} with --batch_size={rl.batch_size} and --rollout={rl.rollout}: a "
            f"minibatch has {rl.batch_size // rl.rollout} trajectories, so some learners would have nothing to do"
        )


def _model(config: Config) -> Iterator[str]:
    model = config.model
    belongs = {
        "convnet_simple": "conv",
        "convnet_impala": "conv",
        "convnet_atari": "conv",
        "resnet_impala": "resnet",
        "mlp": "mlp",
        "mlp_mujoco": "mlp",
    }
    kind = belongs.get(model.encoder_subtype)
    if kind is not None and model.encoder_type not in ("auto", kind):
        yield (
            f"--encoder_type={model.encoder_type} with --encoder_subtype={model.encoder_subtype}: the "
            f"subtype belongs to encoder_type={kind}"
        )
    for name in ("encoder_mlp_layers", "encoder_conv_mlp_layers", "decoder_mlp_layers"):
        if any(width < 1 for width in getattr(model, name)):
            yield f"--{name}: every width must be at least 1, because a layer has at least one unit"
    for name in ("encoder_custom", "core_custom", "decoder_custom", "actor_critic_custom"):
        path = getattr(model, name)
        if path is not None and ":" not in path and (name, path) != ("encoder_custom", INSTRUCTION_ENCODER):
            yield f"--{name}={path}: write package.module:{_EXAMPLES[name]}"
    for path in config.rl.extra_losses:
        if ":" not in path:
            yield f"--extra_losses={path}: write package.module:loss"
    for field in config.env.step_fields:
        try:
            parse_step_field(field)
        except ValueError as error:
            yield f"--step_fields={field}: {error}"


_EXAMPLES = {
    "encoder_custom": "make_encoder",
    "core_custom": "make_core",
    "decoder_custom": "make_decoder",
    "actor_critic_custom": "make_network",
}


def _pbt(config: Config) -> Iterator[str]:
    pbt = config.pbt
    if pbt.pbt_perturb_min > pbt.pbt_perturb_max:
        yield (
            f"--pbt_perturb_min={pbt.pbt_perturb_min:g} with --pbt_perturb_max={pbt.pbt_perturb_max:g}: the "
            "smallest factor must not exceed the largest"
        )
    yield from check_per_policy(config)
    if config.evaluation.policy_index >= config.sampling.num_policies:
        yield (
            f"--policy_index={config.evaluation.policy_index} with "
            f"--num_policies={config.sampling.num_policies}: policies are counted from 0"
        )


def check_self_play(config: Config, *, num_agents: int, autoreset: bool) -> list[str]:
    """Faults that show only once the environment is known."""
    self_play = config.sampling.self_play
    if self_play == "current" or (num_agents > 1 and not autoreset):
        return []
    why = "its agents begin their episodes one by one" if num_agents > 1 else "there is one agent in it"
    return [
        f"--self_play={self_play}: earlier selves are opponents in matches of several agents, but {why} "
        f"(--env={config.run.env}); leave the flag out"
    ]


def check_batch_can_fill(config: Config, *, num_agents: int) -> list[str]:
    """Faults that show only once the number of agents per environment is known: a synchronous iteration must
    be made of whole rounds of rollouts (every agent of every environment once), or its leftovers would be
    trained on by a later policy.
    """
    sampling, rl = config.sampling, config.rl
    if sampling.async_rl or not sampling.acts_as_one:
        return []
    per_round = sampling.num_workers * sampling.num_envs_per_worker * num_agents
    wanted = rl.batch_size * rl.num_batches_per_iteration // rl.rollout
    if fills_rounds(wanted, per_round=per_round):
        return []
    batches = rl.num_batches_per_iteration
    fitting = nearest_fitting_batch(wanted // batches, per_round=per_round, batches=batches)
    iteration = f" with --num_batches_per_iteration={batches}" if batches > 1 else ""
    return [
        f"--batch_size={rl.batch_size}{iteration}: an iteration of {wanted} trajectories cannot be filled by "
        f"whole rounds of {per_round} (num_workers {sampling.num_workers} x num_envs_per_worker "
        f"{sampling.num_envs_per_worker} x agents {num_agents}), which synchronous training collects; use "
        f"for example --batch_size={fitting * rl.rollout}, or --async_rl=True"
    ]
