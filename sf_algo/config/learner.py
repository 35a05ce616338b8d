"""What the learner optimizes: PPO, its returns, its losses and its optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sf_algo.config.flag import flag

LrSchedule = Literal["constant", "linear_decay", "kl_adaptive_minibatch", "kl_adaptive_epoch"]
_RATIO = "it is a fraction"
_COEFF = "a negative weight would turn the loss around"


@dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """Reinforcement-learning hyperparameters."""

    rollout: int = flag(32, "length of a trajectory in steps", at_least=1, why="a trajectory has at least one step")
    recurrence: int = flag(32, "steps of backpropagation through time: the rollout, or 1 without a recurrent core")
    batch_size: int = flag(1024, "samples in one minibatch", at_least=1, why="a minibatch has at least one sample")
    num_batches_per_iteration: int = flag(
        1,
        "minibatches collected before a training iteration, which shuffles them together",
        aliases=("num_batches_per_epoch",),
        at_least=1,
        why="an iteration trains on something",
    )
    ppo_epochs: int = flag(
        1,
        "passes over the experience of an iteration",
        aliases=("num_epochs",),
        at_least=1,
        why="0 would learn nothing",
    )
    num_minibatches_to_accumulate: int = flag(
        -1,
        "minibatches that may wait for the learner before sampling pauses; less than an iteration's count as one; "
        "-1: 2 iterations' worth; 0: none, sampling pauses while the learner trains",
        aliases=("num_batches_to_accumulate",),
        at_least=-1,
    )

    gamma: float = flag(0.99, "discount", at_least=0, at_most=1, why=_RATIO)
    gae_lambda: float = flag(0.95, "lambda of generalized advantage estimation", at_least=0, at_most=1, why=_RATIO)
    with_vtrace: bool = flag(True, "V-trace returns instead of GAE: corrects for policy lag")
    vtrace_rho: float = flag(1.0, "V-trace clip of the importance weight of the temporal difference", above=0)
    vtrace_c: float = flag(1.0, "V-trace clip of the importance weight of the trace", above=0)
    vtrace_lambda: float = flag(
        1.0,
        "lambda of V-trace: below 1 it trusts values more and draws of actions less, as gae_lambda does",
        at_least=0,
        at_most=1,
        why=_RATIO,
    )
    vtrace_weighs_advantages: bool = flag(
        True,
        "advantages of V-trace carry its clipped weight rho beside the ratio of the PPO objective; False: the ratio "
        "alone weighs them, as in the paper's policy gradient",
    )
    value_bootstrap: bool = flag(
        True, "at a time limit, bootstrap from the value of the final observation instead of 0"
    )
    reward_scale: float = flag(1.0, "rewards are multiplied by this")
    reward_clip: float = flag(1000.0, "scaled rewards are clipped to [-clip, clip]", above=0, why="0 leaves no reward")
    obs_subtract_mean: float = flag(0.0, "subtracted from observations")
    obs_scale: float = flag(1.0, "observations are divided by this (255 for images)", above=0, why="it divides")
    normalize_input: bool = flag(False, "normalize observations by their running mean and standard deviation")
    normalize_input_keys: tuple[str, ...] = flag(
        (), "observations to normalize when normalize_input is on; empty: all of them"
    )
    normalize_returns: bool = flag(False, "normalize returns by their running mean and standard deviation")

    learning_rate: float = flag(1e-4, "step size of Adam", at_least=0)
    lr_schedule: LrSchedule = flag(
        "constant",
        "how the learning rate changes: never; linearly to 0 at train_for_env_steps; by the KL divergence "
        "after each minibatch or epoch",
    )
    lr_schedule_kl_threshold: float = flag(0.008, "KL divergence that the adaptive schedules aim at", above=0)
    lr_adaptive_min: float = flag(1e-6, "smallest learning rate of the adaptive schedules", above=0)
    lr_adaptive_max: float = flag(1e-2, "largest learning rate of the adaptive schedules", above=0)
    adam_eps: float = flag(1e-6, "epsilon of Adam", above=0)
    adam_beta1: float = flag(0.9, "decay of Adam's first moment", at_least=0, at_most=1, why=_RATIO)
    adam_beta2: float = flag(0.999, "decay of Adam's second moment", at_least=0, at_most=1, why=_RATIO)
    max_grad_norm: float = flag(4.0, "gradients are scaled down to this norm; 0: never", at_least=0)

    ppo_clip_ratio: float = flag(0.1, "the policy ratio is clipped to [1 / (1 + x), 1 + x]", above=0)
    ppo_clip_value: float = flag(1.0, "largest change of a value in one update", above=0)
    exploration_loss: Literal["entropy", "symmetric_kl"] = flag(
        "entropy", "what keeps the policy exploring: its entropy, or its symmetric KL divergence from uniform"
    )
    exploration_loss_coeff: float = flag(0.003, "weight of the exploration loss", at_least=0, why=_COEFF)
    value_loss_coeff: float = flag(0.5, "weight of the value loss", at_least=0, why=_COEFF)
    extra_losses: tuple[str, ...] = flag(
        (), "functions of your own whose losses are added, as package.module:loss, separated by blanks"
    )
    kl_loss_coeff: float = flag(0.0, "weight of the KL divergence from the policy that acted", at_least=0, why=_COEFF)
