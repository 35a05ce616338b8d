"""Environments by name, and the two interfaces that their wrappers may offer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sf_algo.compat.sample_factory.context import CONTEXT
from sf_algo.envs.adapter import layers_of
from sf_algo.errors import EnvCrashedError


class EnvCriticalError(EnvCrashedError):
    """Raised by an environment that cannot go on; a new one is made."""


def register_env(env_name: str, make_env_func: Callable[..., Any]) -> None:
    """`make_env_func(full_env_name, cfg=..., env_config=..., render_mode=...)` makes the environment of that name.
    `env_config` has worker_index, vector_index and env_id, and is None where only the spaces are asked."""
    CONTEXT.envs[env_name] = make_env_func


class TrainingInfoInterface:
    """For wrappers that want to know how far the training is: `self.training_info["approx_total_training_steps"]`, in
    frames, is brought up to date at every reset and at the end of every episode."""

    def __init__(self) -> None:
        self.training_info: dict[str, Any] = {}

    def set_training_info(self, training_info: dict[str, Any]) -> None:
        self.training_info = training_info


class RewardShapingInterface:
    """For wrappers whose reward is shaped by numbers that population-based training may change."""

    def get_default_reward_shaping(self) -> dict[str, Any] | None:
        """name -> number, nested dictionaries allowed; None: there is nothing to shape."""
        raise NotImplementedError

    def set_reward_shaping(self, reward_shaping: dict[str, Any], agent_idx: int | slice) -> None:
        """Shape the reward of these agents by these numbers from now on."""
        raise NotImplementedError


def find_wrapper_interface(env: Any, interface_type: type) -> Any:
    """The outermost of the environment and its wrappers that has the interface, or None."""
    return next((layer for layer in layers_of(env) if isinstance(layer, interface_type)), None)


def find_training_info_interface(env: Any) -> TrainingInfoInterface | None:
    """The wrapper that wants to know how far the training is."""
    found: TrainingInfoInterface | None = find_wrapper_interface(env, TrainingInfoInterface)
    return found
