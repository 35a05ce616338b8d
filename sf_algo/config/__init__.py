"""Configuration: one frozen section per component; a field's name is its flag's name. No torch, no numpy."""

from __future__ import annotations

from sf_algo.config.entry import report_error, run_command
from sf_algo.config.env import DmlabConfig, DoomConfig, EnvConfig
from sf_algo.config.env_family import EnvFamily, family_of
from sf_algo.config.extras import DummySamplerConfig, EvaluationConfig, PbtConfig, WandbConfig
from sf_algo.config.learner import LearnerConfig
from sf_algo.config.model import ModelConfig
from sf_algo.config.resolve import Command, Invocation, configure, parse_args
from sf_algo.config.run import RunConfig
from sf_algo.config.sampling import SamplingConfig
from sf_algo.config.sections import Config
from sf_algo.config.store import config_from_dict, config_to_dict, config_values, save_config
from sf_algo.config.validate import check_batch_can_fill

__all__ = [
    "Command",
    "Config",
    "DmlabConfig",
    "DoomConfig",
    "DummySamplerConfig",
    "EnvConfig",
    "EnvFamily",
    "EvaluationConfig",
    "Invocation",
    "LearnerConfig",
    "ModelConfig",
    "PbtConfig",
    "RunConfig",
    "SamplingConfig",
    "WandbConfig",
    "check_batch_can_fill",
    "config_from_dict",
    "config_to_dict",
    "config_values",
    "configure",
    "family_of",
    "parse_args",
    "report_error",
    "run_command",
    "save_config",
]
