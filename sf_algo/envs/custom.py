"""A user's own environment: by import path (`--env=my_pkg.my_env:make_env`), or one that a program names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium

from sf_algo.config import EnvConfig
from sf_algo.envs.agent_lists import AgentLists, is_agent_lists
from sf_algo.envs.gymnasium_env import wrap_gymnasium
from sf_algo.envs.lanes import VectorLanes, is_vector_env
from sf_algo.envs.leaves import PixelFormat
from sf_algo.envs.parallel import ParallelAgents, TurnAgents, is_pettingzoo, is_turn_based
from sf_algo.envs.spec import Env, EnvPlacement, EnvSpec, with_shaping
from sf_algo.errors import EnvError, SfAlgoError
from sf_algo.own.loading import failed
from sf_algo.own.parameters import call_arguments


def make_custom(
    name: str,
    maker: Callable[..., Any],
    env_cfg: EnvConfig,
    placement: EnvPlacement,
    *,
    more: Mapping[str, Any],
    told: Mapping[str, Any],
) -> Env:
    """Calls the user's maker and adapts what it returns: a `gymnasium.Env`, a vector environment, a PettingZoo
    environment, one of lists per agent (`is_multiagent`), or an `Env` of ours.

    The maker gets those of the keyword arguments `env_cfg`, `placement`, `render_mode` and what is in `more` that it
    declares, and all of `told`, which the user has typed. `--env_frameskip` and `--env_framestack` apply to a gymnasium
    environment only.
    """
    offered = {"env_cfg": env_cfg, "placement": placement, "render_mode": placement.render_mode, **more}
    arguments = call_arguments(maker, offered, told, name)
    try:
        env = _call(maker, arguments, told)
    except (SfAlgoError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise failed(f"--env={name}", error) from error
    if isinstance(env, Env) and isinstance(env.spec, EnvSpec):
        return with_shaping(env, env)
    adapted = _adapt_several(env, env_cfg)
    if adapted is not None:
        return with_shaping(adapted, env)
    if isinstance(env, gymnasium.Env):
        return wrap_gymnasium(env, env_cfg)
    if hasattr(env, "observation_space") and hasattr(env, "step"):
        raise EnvError(
            f"--env={name} returned a {type(env).__module__}.{type(env).__name__}, which is no gymnasium.Env; derive "
            "it from gymnasium.Env instead of the old gym's, or wrap it (the package shimmy has a wrapper)"
        )
    raise EnvError(
        f"--env={name} returned a {type(env).__name__}; return a gymnasium.Env, a vector environment, a PettingZoo "
        "environment or an object with spec, reset, step and close as sf_algo.envs.spec.Env says"
    )


def _adapt_several(env: Any, env_cfg: EnvConfig) -> Env | None:
    """An environment of several agents behind the `Env` protocol; None where it is none.

    Frame skips of such environments are their own: what --env_frameskip says is only counted.
    """
    frameskip = env_cfg.env_frameskip or 1
    pixel_format: PixelFormat = "HWC" if env_cfg.pixel_format == "HWC" else "CHW"
    if is_vector_env(env):
        return VectorLanes(env, frameskip=frameskip, pixel_format=pixel_format)
    if is_agent_lists(env):
        return AgentLists(env, frameskip=frameskip, framestack=env_cfg.env_framestack, pixel_format=pixel_format)
    if is_pettingzoo(env):
        kind = TurnAgents if is_turn_based(env) else ParallelAgents
        return kind(env, frameskip=frameskip, pixel_format=pixel_format)
    return None


def _call(maker: Callable[..., Any], arguments: dict[str, Any], told: Mapping[str, Any]) -> Any:
    """Makers that take **kwargs may hand them on to something that does not know ours, as PettingZoo's do: those are
    called with what the user has typed and the render mode only."""
    try:
        return maker(**arguments)
    except TypeError as error:
        ours = [name for name in arguments if name not in told and name != "render_mode"]
        if not any(f"unexpected keyword argument '{name}'" in str(error) for name in ours):
            raise
    return maker(render_mode=arguments.get("render_mode"), **told)
