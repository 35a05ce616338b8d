"""What an environment's maker can be told: its parameters that have defaults, as flags, and the values it is called
with."""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from sf_algo.config.flag import FlagInfo
from sf_algo.config.flags import ENV_ARGS, FlagSpec, FlagValue, Kind, NoFlagError, kind_of
from sf_algo.config.program import EnvParameters
from sf_algo.config.values import is_plain
from sf_algo.errors import EnvError

OFFERED = ("env_cfg", "placement", "render_mode", "training")
"""What every maker of a user's own may declare as a parameter, whether it has a default or not."""
_NOT_A_PARAMETER = object()


def maker_parameters(maker: Callable[..., Any], offered: tuple[str, ...]) -> EnvParameters:
    """The parameters of a user's own maker that become flags: those with a plain default, or with an annotation that a
    command line can say. Those in `offered` come from the trainer."""
    parameters = _signature(maker)
    return EnvParameters(
        specs=_specs(maker, parameters, offered),
        is_open=any(p.kind is p.VAR_KEYWORD for p in parameters),
    )


def registered_parameters(env_id: str) -> EnvParameters:
    """The same for an environment that is registered with gymnasium. Where it cannot be imported, making it will tell
    why, so here any parameter will do."""
    import gymnasium

    module, has_module, name = env_id.rpartition(":")
    with suppress(Exception):
        if has_module:
            importlib.import_module(module)
        entry = gymnasium.spec(name)
        maker: Any = entry.entry_point
        if isinstance(maker, str):
            maker = gymnasium.envs.registration.load_env_creator(maker)
        parameters = _signature(maker)
        specs = [_with_default(s, entry.kwargs) for s in _specs(maker, parameters, ("render_mode",))]
        specs.append(_time_limit(entry.max_episode_steps))
        return EnvParameters(specs=tuple(specs), bare=False, is_open=any(p.kind is p.VAR_KEYWORD for p in parameters))
    return EnvParameters(bare=False, is_open=True)


def call_arguments(
    maker: Callable[..., Any], offered: Mapping[str, Any], told: Mapping[str, Any], name: str
) -> dict[str, Any]:
    """The keyword arguments for a user's maker: of what is `offered` the parameters that it declares, and all that the
    user has `told` it.

    Raises:
        EnvError: it requires a parameter that nobody gives.
    """
    parameters = _signature(maker)
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return {**offered, **told}
    unmet = [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind is not p.VAR_POSITIONAL and p.name not in offered and p.name not in told
    ]
    if unmet:
        raise EnvError(
            f"--env={name} requires {', '.join(unmet)}, but is only ever called with "
            f"{', '.join(offered)}; give the others defaults"
        )
    return {**{p.name: offered[p.name] for p in parameters if p.name in offered}, **told}


def _signature(maker: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(maker).parameters.values())
    except (TypeError, ValueError):
        return []


def _specs(
    maker: Callable[..., Any], parameters: list[inspect.Parameter], offered: tuple[str, ...]
) -> tuple[FlagSpec, ...]:
    hints: dict[str, Any] = {}
    with suppress(Exception):  # annotations may name what only a type checker imports
        function: Any = maker.__init__ if inspect.isclass(maker) else maker
        hints = typing.get_type_hints(function, include_extras=True)
    found = [
        _spec(p, hints.get(p.name, _NOT_A_PARAMETER))
        for p in parameters
        if p.default is not p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        if p.name not in offered and not p.name.startswith("_")
    ]
    return tuple(spec for spec in found if spec is not None)


def _spec(parameter: inspect.Parameter, annotation: Any) -> FlagSpec | None:
    """The flag of one parameter; None where no command line could say its value."""
    default = tuple(parameter.default) if isinstance(parameter.default, list) else parameter.default
    if not is_plain(default):
        return None
    info = FlagInfo(help="")
    if typing.get_origin(annotation) is typing.Annotated:
        annotation, *more = typing.get_args(annotation)
        info = next((FlagInfo(help=text) for text in more if isinstance(text, str)), info)
    kind: Kind
    try:
        kind, is_list, optional, choices = kind_of(annotation)
        if annotation is int and type(default) is float:
            kind = "float"
    except NoFlagError:
        if annotation is not _NOT_A_PARAMETER and default is None:
            return None  # an object of some class, or nothing
        kind, is_list, optional, choices = _kind_of_default(default)
    return FlagSpec(
        section=ENV_ARGS,
        name=parameter.name,
        kind=kind,
        is_list=is_list,
        optional=optional or default is None,
        choices=choices,
        default=float(default) if kind == "float" and type(default) is int else default,
        info=info,
    )


def _kind_of_default(default: FlagValue) -> tuple[Kind, bool, bool, tuple[str, ...]]:
    if isinstance(default, tuple):
        kinds = {type(item) for item in default}
        if len(kinds) != 1:
            return "any", False, True, ()
        return kind_of(kinds.pop())[0], True, False, ()
    return ("any", False, True, ()) if default is None else kind_of(type(default))


def _with_default(spec: FlagSpec, registered: Mapping[str, Any]) -> FlagSpec:
    """What an environment was registered with lies over the defaults of its class."""
    value = registered.get(spec.name, spec.default)
    value = tuple(value) if isinstance(value, list) else value
    if not is_plain(value):
        return spec
    kind, is_list, optional, choices = _kind_of_default(value)
    if spec.default is not None or value is None:
        kind, is_list, optional, choices = spec.kind, spec.is_list, spec.optional, spec.choices
    return FlagSpec(
        section=spec.section,
        name=spec.name,
        kind=kind,
        is_list=is_list,
        optional=optional,
        choices=choices,
        default=value,
        info=spec.info,
    )


def _time_limit(registered: int | None) -> FlagSpec:
    return FlagSpec(
        section=ENV_ARGS,
        name="max_episode_steps",
        kind="int",
        is_list=False,
        optional=True,
        choices=(),
        default=None,
        info=FlagInfo(
            help="steps after which an episode is truncated", at_least=1, default_text=str(registered or "no limit")
        ),
    )
