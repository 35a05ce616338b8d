"""`Config`: one frozen section per component."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sf_algo.config.accepted import AcceptedConfig
from sf_algo.config.env import DmlabConfig, DoomConfig, EnvConfig
from sf_algo.config.env_family import EnvFamily, family_of
from sf_algo.config.extras import (
    DummySamplerConfig,
    EvaluationConfig,
    LeagueConfig,
    PbtConfig,
    SpeedConfig,
    WandbConfig,
)
from sf_algo.config.learner import LearnerConfig
from sf_algo.config.model import ModelConfig
from sf_algo.config.run import RunConfig
from sf_algo.config.sampling import SamplingConfig


@dataclass(frozen=True, kw_only=True)
class Config:
    """The whole configuration; components receive their section of it, never this."""

    run: RunConfig = field(default_factory=RunConfig)
    env: EnvConfig = field(default_factory=EnvConfig)
    doom: DoomConfig = field(default_factory=DoomConfig)
    dmlab: DmlabConfig = field(default_factory=DmlabConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    rl: LearnerConfig = field(default_factory=LearnerConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    pbt: PbtConfig = field(default_factory=PbtConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)
    speed: SpeedConfig = field(default_factory=SpeedConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    league: LeagueConfig = field(default_factory=LeagueConfig)
    dummy: DummySamplerConfig = field(default_factory=DummySamplerConfig)
    accepted: AcceptedConfig = field(default_factory=AcceptedConfig)

    own: Mapping[str, Any] = field(default_factory=dict)
    """Sections of the user's program: name -> its dataclass."""
    env_args: Mapping[str, Any] = field(default_factory=dict)
    """What the maker of the environment is told: parameter -> value."""
    app: str | None = None
    """Import path of the user's program."""
    names_env: bool = False
    """The user's program makes the environment, whatever its name looks like."""

    @property
    def env_family(self) -> EnvFamily | None:
        """The family of the run's environment."""
        return EnvFamily.CUSTOM if self.names_env else family_of(self.run.env)
