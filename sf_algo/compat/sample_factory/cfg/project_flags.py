"""From what a project added to an argparse parser to a section of the trainer's configuration."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, Literal, cast

from sf_algo.config.flag import flag
from sf_algo.config.flags import flags_by_spelling
from sf_algo.config.values import has_type
from sf_algo.errors import ConfigError

SECTION = "project"
"""The section of the project's own flags."""

_PLAIN = (bool, int, float, str)


def project_section(parser: argparse.ArgumentParser) -> type:
    """A dataclass with one flag for each argument that was added.

    Raises:
        ConfigError: an argument that has no counterpart here.
    """
    fields = []
    for action in _own_actions(parser):
        name = action.dest
        if not any(option == f"--{name}" for option in action.option_strings):
            raise ConfigError(
                f"the project's argument {'/'.join(action.option_strings) or name} has to be called --{name} like its "
                "dest"
            )
        annotation, default = _kind(action)
        text = "" if action.help in (None, argparse.SUPPRESS) else str(action.help)
        fields.append((name, annotation, flag(default, text.replace("%%", "%"))))
    return dataclasses.make_dataclass(
        "Project", fields, frozen=True, kw_only=True, namespace={"__doc__": "The project."}
    )


def converted(parser: argparse.ArgumentParser, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the project's flags as its own types want them: what is neither number, text nor truth value here
    travels as text."""
    found = {}
    for action in _own_actions(parser):
        value = values[action.dest]
        convert = action.type
        if callable(convert) and convert not in _PLAIN and not _is_truth(action) and isinstance(value, str):
            value = convert(value)
        found[action.dest] = list(value) if isinstance(value, tuple) else value
    return found


def trainer_defaults(parser: argparse.ArgumentParser) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the project gave to `set_defaults`: values of the trainer's flags, by name, and all others."""
    own = {action.dest for action in _own_actions(parser)}
    ours: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for name, value in parser._defaults.items():
        if name in own:
            continue
        settled = tuple(value) if isinstance(value, list) else value
        specs = flags_by_spelling().get(name, ())
        fits = specs and all(has_type(spec, settled) for spec in specs)
        (ours if fits else others)[name] = settled if fits else value
    return ours, others


def _own_actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]


def _kind(action: argparse.Action) -> tuple[Any, Any]:
    """Annotation and default."""
    if isinstance(action, argparse._StoreFalseAction):
        raise ConfigError(
            f"the project's argument --{action.dest} is switched off by being named (store_false), which cannot be "
            "said here; declare it with type=str2bool"
        )
    default = action.default
    convert: Any = action.type
    if isinstance(default, str) and callable(convert) and convert is not str:
        default = convert(default)
    kind: Any = bool if isinstance(action, argparse._StoreTrueAction) or _is_truth(action) else convert
    if kind not in _PLAIN:
        kind = str
        default = action.default if action.default is None or isinstance(action.default, str) else repr(action.default)
    if action.choices and kind is str:
        kind = cast(Any, Literal)[tuple(str(choice) for choice in action.choices)]
    if action.nargs not in (None, "?", 0):
        return cast(Any, tuple)[kind, ...], tuple(default or ())
    if kind is float and type(default) is int:
        default = float(default)
    return (kind | None if default is None else kind), default


def _is_truth(action: argparse.Action) -> bool:
    """Whether the argument is converted by a function for truth values, whoever wrote it."""
    return action.type is bool or (inspect.isfunction(action.type) and "bool" in action.type.__name__)
