"""Registered environments as makers of an `App`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gymnasium

from sf_algo.compat.sample_factory.context import CONTEXT
from sf_algo.compat.sample_factory.envs.env_utils import (
    RewardShapingInterface,
    find_training_info_interface,
    find_wrapper_interface,
)
from sf_algo.compat.sample_factory.utils.attr_dict import AttrDict
from sf_algo.envs.adapter import attribute_of
from sf_algo.envs.agent_lists import AgentLists, is_agent_lists
from sf_algo.envs.gymnasium_env import GymnasiumEnv
from sf_algo.envs.spec import EnvPlacement
from sf_algo.own.training_info import TrainingInfo


class LiveTrainingInfo(dict[str, Any]):
    """`training_info` of wrappers, whose number of steps is always the newest."""

    def __init__(self, training: TrainingInfo) -> None:
        super().__init__(approx_total_training_steps=0)
        self._training = training

    def __getitem__(self, key: str) -> Any:
        return self._training.env_steps if key == "approx_total_training_steps" else super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if super().__contains__(key) else default

    def items(self) -> Any:
        return [(key, self[key]) for key in self]

    def values(self) -> Any:
        return [self[key] for key in self]


def makers() -> dict[str, Callable[..., Any]]:
    """Of every environment that is registered now."""
    return {name: partial(_made, make) for name, make in CONTEXT.envs.items()}


def _made(
    make: Callable[..., Any], name: str, placement: EnvPlacement, render_mode: str | None, training: TrainingInfo
) -> Any:
    index = placement.env_index
    env_config = AttrDict(worker_index=placement.worker_index, vector_index=index, env_id=index)
    env = make(name, CONTEXT.cfg, env_config, render_mode=render_mode)
    informed = find_training_info_interface(env)
    if informed is not None:
        informed.set_training_info(LiveTrainingInfo(training))
    shaped = find_wrapper_interface(env, RewardShapingInterface)
    default = shaped.get_default_reward_shaping() if shaped is not None else None
    adapted = _adapted(env)
    if default is not None:
        adapted.shaping = lambda: default
        adapted.set_shaping = lambda agent, values: _shape(shaped, agent, values)
    return adapted


def _adapted(env: Any) -> Any:
    """Behind our protocol. Projects' environments skip and stack frames themselves; the skip is counted."""
    frameskip = CONTEXT.cfg.env_frameskip or 1
    if _has_agents(env):
        return AgentLists(env, frameskip=frameskip)
    if not isinstance(env, gymnasium.Env):
        return env  # the trainer says what it cannot use
    return GymnasiumEnv(env, own_frameskip=frameskip)


def _has_agents(env: Any) -> bool:
    """Whether it is one of lists per agent: it says so, or it counts more than one agent and does not say otherwise."""
    if attribute_of(env, "is_multiagent") is not None:
        return is_agent_lists(env)
    return (attribute_of(env, "num_agents") or 1) > 1


def _shape(shaped: RewardShapingInterface, agent: int, values: Mapping[str, Any]) -> None:
    shaped.set_reward_shaping(dict(values), agent)
