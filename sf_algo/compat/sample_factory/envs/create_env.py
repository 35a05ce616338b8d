"""Environments made without a training."""

from __future__ import annotations

from typing import Any

from sf_algo.compat.sample_factory.context import CONTEXT
from sf_algo.errors import UnknownEnvError


def create_env(full_env_name: str, cfg: Any = None, env_config: Any = None, render_mode: str | None = None) -> Any:
    """What the maker that was registered for the name returns. Raises UnknownEnvError."""
    if full_env_name not in CONTEXT.envs:
        known = ", ".join(CONTEXT.envs) or "none"
        raise UnknownEnvError(f"--env={full_env_name}: this program has registered {known}")
    return CONTEXT.envs[full_env_name](full_env_name, cfg=cfg, env_config=env_config, render_mode=render_mode)
