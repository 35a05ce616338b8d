"""The registry of networks and of environments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sf_algo.compat.sample_factory.context import CONTEXT, Context, ModelFactory


def global_model_factory() -> ModelFactory:
    """Where projects register the parts of their networks."""
    return CONTEXT.models


def global_env_registry() -> dict[str, Callable[..., Any]]:
    """Name -> maker of an environment."""
    return CONTEXT.envs


def sf_global_context() -> Context:
    """All registrations."""
    return CONTEXT


def reset_global_context() -> None:
    """Forget all registrations."""
    CONTEXT.envs.clear()
    CONTEXT.models.makers.clear()
    CONTEXT.cfg = None
