"""`Config`: one frozen section per component."""

from __future__ import annotations

from dataclasses import dataclass, field

from sf_algo.config.env import DmlabConfig, DoomConfig, EnvConfig
from sf_algo.config.extras import DummySamplerConfig, EvaluationConfig, PbtConfig, SpeedConfig, WandbConfig
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
    dummy: DummySamplerConfig = field(default_factory=DummySamplerConfig)
