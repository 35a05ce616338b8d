"""Starts trainings."""

from __future__ import annotations

from sf_algo.compat.sample_factory.cfg.arguments import ProjectConfig
from sf_algo.compat.sample_factory.runner import make_runner

__all__ = ["make_runner", "run_rl"]


def run_rl(cfg: ProjectConfig) -> int:
    """Trains; returns the exit code. `cfg` comes from `parse_full_cfg` and may have been changed since."""
    return cfg.app.main(["train", *cfg.words()])
