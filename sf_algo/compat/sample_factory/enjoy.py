"""Watches and evaluates policies."""

from __future__ import annotations

from sf_algo.compat.sample_factory.cfg.arguments import ProjectConfig


def enjoy(cfg: ProjectConfig) -> int:
    """Plays a trained policy; returns the exit code. `cfg` comes from `parse_full_cfg`, parsed with evaluation=True."""
    return cfg.app.main(["enjoy", *cfg.words()])
