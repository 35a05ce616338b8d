"""How a section declares one of its flags: a dataclass field whose metadata the parser and the help read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

T = TypeVar("T")

METADATA_KEY = "flag"
NO_VALUES: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class FlagInfo:
    """What the parser, the validator and ``--help`` know about a flag beyond its name, type and default.

    ``at_least``, ``above`` and ``at_most`` bound a number (the second excludes its bound); ``why`` says why
    the bound exists and is printed with the fault. ``aliases`` are other spellings of the flag,
    ``value_aliases`` other spellings of its values, ``default_text`` what the help shows as the default.
    ``idle`` says why a flag that is accepted for the sake of old command lines does nothing.
    """

    help: str
    aliases: tuple[str, ...] = ()
    value_aliases: Mapping[str, str] = field(default_factory=dict)
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    why: str = ""
    default_text: str = ""
    idle: str = ""


def flag(
    default: T,
    help: str,
    *,
    aliases: tuple[str, ...] = (),
    value_aliases: Mapping[str, str] = NO_VALUES,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    why: str = "",
    default_text: str = "",
    idle: str = "",
) -> T:
    """Declares a dataclass field that is also a command-line flag of the same name."""
    info = FlagInfo(
        help=help,
        aliases=aliases,
        value_aliases=value_aliases,
        at_least=at_least,
        above=above,
        at_most=at_most,
        why=why,
        default_text=default_text,
        idle=idle,
    )
    return dataclasses.field(default=default, metadata={METADATA_KEY: info})


def computed_flag(default_factory: Callable[[], T], help: str, **details: Any) -> T:
    """As `flag`, for a default that depends on the machine."""
    info = FlagInfo(help=help, **details)
    return dataclasses.field(default_factory=default_factory, metadata={METADATA_KEY: info})
