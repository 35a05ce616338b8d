"""Puts a recorder of infos between a user's environment and our adapter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sf_algo.config import EnvConfig
from sf_algo.config.env import parse_step_field
from sf_algo.envs.recorder import HasRecorder, InfoRecorder
from sf_algo.envs.spec import Env
from sf_algo.errors import EnvError


class _Recorded:
    """A user's environment, which is itself but for its steps."""

    def __init__(self, env: Any, see: Callable[[Any], None]) -> None:
        self._recorded_env = env
        self._recorded_see = see

    def step(self, actions: Any) -> Any:
        answer = self._recorded_env.step(actions)
        if isinstance(answer, tuple) and answer:
            self._recorded_see(answer[-1])
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recorded_env, name)


def record_infos(env: Env, env_cfg: EnvConfig, *, extras: bool) -> Env:
    """The same environment, with what its infos say recorded where somebody wants it: --step_fields, or `extras` of
    episodes.

    Raises:
        EnvError: --step_fields with an environment that has no infos.
    """
    if isinstance(env, HasRecorder) or not (env_cfg.step_fields or extras):
        return env
    adapter: Any = env
    users = getattr(adapter, "_env", None)  # all adapters keep the user's environment there
    see = _seer(users, env.spec.num_agents)
    if see is None:
        if not env_cfg.step_fields:
            return env
        raise EnvError(
            f"--step_fields={' '.join(env_cfg.step_fields)}: this environment has no infos of its steps; one that "
            "implements sf_algo.envs.spec.Env has an attribute recorder (sf_algo.envs.recorder.InfoRecorder)"
        )
    fields = dict(parse_step_field(text) for text in env_cfg.step_fields)
    recorder = InfoRecorder(env.spec.num_agents, fields)
    adapter._env = _Recorded(users, lambda infos: see(recorder, infos))
    adapter.recorder = recorder
    adapter.spec = replace(env.spec, step_fields=fields)
    return env


def _seer(users: Any, num_agents: int) -> Callable[[InfoRecorder, Any], None] | None:
    """How to read the infos of such an environment; None where there are none."""
    if hasattr(users, "single_observation_space"):
        return lambda recorder, info: recorder.see_block(info)
    if hasattr(users, "agent_selection") or not hasattr(users, "step"):
        return None  # agents in turns return nothing from a step
    names: Sequence[Any] = list(getattr(users, "possible_agents", ()))

    def see(recorder: InfoRecorder, infos: Any) -> None:
        if not isinstance(infos, Mapping):
            for agent, info in zip(range(num_agents), infos, strict=False):
                recorder.see(agent, info)
        elif not names:
            recorder.see(0, infos)
        for agent, name in enumerate(names if isinstance(infos, Mapping) else ()):
            recorder.see(agent, infos.get(name))

    return see
