"""The defaults that each family of environments lays under the user's flags."""

from __future__ import annotations

from collections.abc import Mapping

from sf_algo.config.env_family import EnvFamily
from sf_algo.config.flags import FlagKey, FlagValue

_DOOM: Mapping[FlagKey, FlagValue] = {
    ("env", "env_frameskip"): 4,
    ("model", "hidden_size"): 512,
    ("rl", "obs_subtract_mean"): 0.0,
    ("rl", "obs_scale"): 255.0,
    ("rl", "ppo_clip_value"): 0.2,
    ("rl", "exploration_loss"): "symmetric_kl",
    ("rl", "exploration_loss_coeff"): 0.001,
    ("evaluation", "fps"): 35,
}
_DMLAB: Mapping[FlagKey, FlagValue] = {
    ("env", "env_frameskip"): 4,
    ("model", "encoder_custom"): "dmlab_instructions",
    ("rl", "obs_subtract_mean"): 128.0,
    ("rl", "obs_scale"): 128.0,
    ("sampling", "reset_timeout_seconds"): 300.0,
    ("evaluation", "fps"): 60,
}
_ATARI: Mapping[FlagKey, FlagValue] = {
    ("env", "env_frameskip"): 4,
    ("env", "env_framestack"): 4,
    ("model", "encoder_subtype"): "convnet_atari",
    ("model", "nonlinearity"): "relu",
    ("rl", "obs_scale"): 255.0,
    ("model", "use_rnn"): False,
    ("rl", "reward_clip"): 1.0,
    ("rl", "exploration_loss_coeff"): 0.01,
    ("evaluation", "fps"): 60,
}
_MUJOCO: Mapping[FlagKey, FlagValue] = {
    ("env", "env_frameskip"): 1,
    ("model", "encoder_subtype"): "mlp_mujoco",
    ("model", "hidden_size"): 64,
    ("model", "nonlinearity"): "tanh",
    ("model", "policy_initialization"): "torch_default",
    ("model", "adaptive_stddev"): False,
    ("rl", "normalize_input"): True,
    ("model", "use_rnn"): False,
    ("rl", "rollout"): 64,
    ("rl", "num_batches_per_iteration"): 4,
    ("rl", "ppo_epochs"): 2,
    ("rl", "with_vtrace"): False,
    ("rl", "normalize_returns"): True,
    ("rl", "learning_rate"): 3e-3,
    ("rl", "lr_schedule"): "linear_decay",
    ("rl", "max_grad_norm"): 3.5,
    ("rl", "ppo_clip_ratio"): 0.2,
    ("rl", "value_loss_coeff"): 1.3,
    ("rl", "exploration_loss_coeff"): 0.0,
    ("rl", "kl_loss_coeff"): 0.1,
}
_CLASSIC: Mapping[FlagKey, FlagValue] = {
    ("env", "env_frameskip"): 1,
    ("model", "hidden_size"): 64,
    ("model", "nonlinearity"): "tanh",
    ("model", "use_rnn"): False,
    ("rl", "normalize_input"): True,
    ("rl", "learning_rate"): 2e-3,
    ("rl", "batch_size"): 256,
    ("rl", "num_batches_per_iteration"): 4,
    ("rl", "ppo_epochs"): 4,
    ("rl", "normalize_returns"): True,
    ("rl", "ppo_clip_ratio"): 0.2,
    ("sampling", "serial_mode"): True,
}

FAMILY_DEFAULTS: Mapping[EnvFamily, Mapping[FlagKey, FlagValue]] = {
    EnvFamily.DOOM: _DOOM,
    EnvFamily.DMLAB: _DMLAB,
    EnvFamily.ATARI: _ATARI,
    EnvFamily.MUJOCO: _MUJOCO,
    EnvFamily.CLASSIC_CONTROL: _CLASSIC,
    EnvFamily.GYMNASIUM: {},
    EnvFamily.CUSTOM: {},
}
"""Values below the user's own flags and above the flags' general defaults."""
