"""A user's own environment: by import path (`--env=my_pkg.my_env:make_env`), or one that a program names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium

from sf_algo.config import EnvConfig
from sf_algo.envs.gymnasium_env import wrap_gymnasium
from sf_algo.envs.spec import Env, EnvPlacement
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
    """Calls the user's maker and adapts what it returns, a `gymnasium.Env` or an `Env` of ours.

    The maker gets those of the keyword arguments `env_cfg`, `placement`, `render_mode` and what is in `more` that it
    declares, and all of `told`, which the user has typed. `--env_frameskip` and `--env_framestack` apply to a gymnasium
    environment only.
    """
    offered = {"env_cfg": env_cfg, "placement": placement, "render_mode": placement.render_mode, **more}
    arguments = call_arguments(maker, offered, told, name)
    try:
        env = maker(**arguments)
    except SfAlgoError:
        raise
    except Exception as error:
        raise failed(f"--env={name}", error) from error
    if isinstance(env, gymnasium.Env):
        return wrap_gymnasium(env, env_cfg)
    if isinstance(env, Env):
        return env
    raise EnvError(
        f"--env={name} returned a {type(env).__name__}; return a gymnasium.Env or an object with spec, "
        "reset, step and close as sf_algo.envs.spec.Env says"
    )
