"""A user's own environment by import path: `--env=my_pkg.my_env:make_env`."""

from __future__ import annotations

import importlib
import inspect
import traceback
from collections.abc import Callable
from typing import Any

import gymnasium

from sf_algo.config import EnvConfig
from sf_algo.envs.gymnasium_env import wrap_gymnasium
from sf_algo.envs.names import did_you_mean
from sf_algo.envs.spec import Env, EnvPlacement
from sf_algo.errors import EnvError, SfAlgoError, UnknownEnvError


def load_maker(name: str) -> Callable[..., Any]:
    """The callable that `package.module:attribute` names. Raises UnknownEnvError: which part is wrong."""
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = str(error.name)
        if module_name != missing and not module_name.startswith(missing + "."):
            raise _failed(name, error) from error  # the module is there: an import of its own fails
        raise UnknownEnvError(
            f"--env={name}: there is no module {missing}; start from the folder that holds it, or put that "
            "folder on PYTHONPATH"
        ) from error
    except Exception as error:
        raise _failed(name, error) from error
    maker: Callable[..., Any] | None = getattr(module, attribute, None)
    if not callable(maker):
        public = [n for n in dir(module) if not n.startswith("_")]
        raise UnknownEnvError(
            f"--env={name}: {module.__file__} has no function {attribute}{did_you_mean(attribute, public)}"
        )
    return maker


def make_custom(name: str, env_cfg: EnvConfig, placement: EnvPlacement) -> Env:
    """Calls the user's maker and adapts what it returns, a `gymnasium.Env` or an `Env` of ours.

    The maker gets those of the keyword arguments `env_cfg`, `placement` and `render_mode` that it declares.
    `--env_frameskip` and `--env_framestack` apply to a gymnasium environment only.
    """
    maker = load_maker(name)
    offered = {"env_cfg": env_cfg, "placement": placement, "render_mode": placement.render_mode}
    arguments = _accepted(maker, offered, name)
    try:
        env = maker(**arguments)
    except SfAlgoError:
        raise
    except Exception as error:
        raise _failed(name, error) from error
    if isinstance(env, gymnasium.Env):
        return wrap_gymnasium(env, env_cfg)
    if isinstance(env, Env):
        return env
    raise EnvError(
        f"--env={name} returned a {type(env).__name__}; return a gymnasium.Env or an object with spec, "
        "reset, step and close as sf_algo.envs.spec.Env says"
    )


def _failed(name: str, error: Exception) -> EnvError:
    """The user's own code raised: one line that says so, and the traceback after it."""
    what = traceback.format_exception_only(type(error), error)[-1].strip()
    details = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return EnvError(f"--env={name}: {what}; the traceback shows where\n{details}")


def _accepted(maker: Callable[..., Any], offered: dict[str, Any], name: str) -> dict[str, Any]:
    try:
        parameters = inspect.signature(maker).parameters.values()
    except (TypeError, ValueError):
        return {}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return offered
    unmet = [
        p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_POSITIONAL and p.name not in offered
    ]
    if unmet:
        raise EnvError(
            f"--env={name} requires {', '.join(unmet)}, but is only ever called with "
            f"{', '.join(offered)}; give the others defaults"
        )
    return {p.name: offered[p.name] for p in parameters if p.name in offered}
