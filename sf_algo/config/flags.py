"""The list of all flags, derived once from the sections' fields."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sf_algo.config.flag import METADATA_KEY, FlagInfo
from sf_algo.config.sections import Config

Kind = Literal["bool", "int", "float", "str"]
FlagValue = bool | int | float | str | None | tuple[int | float | str, ...]
FlagKey = tuple[str, str]
"""Section name and flag name: what a value belongs to."""


@dataclass(frozen=True, kw_only=True)
class FlagSpec:
    """One field of one section as a flag."""

    section: str
    name: str
    kind: Kind
    is_list: bool
    optional: bool
    choices: tuple[str, ...]
    default: FlagValue
    info: FlagInfo

    @property
    def key(self) -> FlagKey:
        return (self.section, self.name)

    @property
    def spellings(self) -> tuple[str, ...]:
        return (self.name, *self.info.aliases)


def _kind_of(annotation: Any) -> tuple[Kind, bool, bool, tuple[str, ...]]:
    """Kind, is_list, optional and choices of a field's annotation."""
    origin = typing.get_origin(annotation)
    if origin is types.UnionType or origin is typing.Union:
        inner = [a for a in typing.get_args(annotation) if a is not type(None)]
        assert len(inner) == 1, f"a flag's type is one type or None, not {annotation}"
        kind, is_list, _, choices = _kind_of(inner[0])
        return kind, is_list, True, choices
    if origin is Literal:
        return "str", False, False, tuple(str(a) for a in typing.get_args(annotation))
    if origin is tuple:
        kind, _, _, choices = _kind_of(typing.get_args(annotation)[0])
        return kind, True, False, choices
    kinds: dict[Any, Kind] = {bool: "bool", int: "int", float: "float", str: "str"}
    return kinds[annotation], False, False, ()


def _default_of(field: dataclasses.Field[Any]) -> FlagValue:
    if field.default_factory is not dataclasses.MISSING:
        return typing.cast(FlagValue, field.default_factory())
    return typing.cast(FlagValue, field.default)


@functools.cache
def section_types() -> Mapping[str, type]:
    """Section name -> its dataclass, in the order of `Config`."""
    return typing.get_type_hints(Config)


@functools.cache
def all_flags() -> tuple[FlagSpec, ...]:
    """Every flag of every section, in declaration order. A name may occur in more than one section."""
    specs = []
    for section, section_type in section_types().items():
        hints = typing.get_type_hints(section_type)
        for field in dataclasses.fields(section_type):
            kind, is_list, optional, choices = _kind_of(hints[field.name])
            specs.append(
                FlagSpec(
                    section=section,
                    name=field.name,
                    kind=kind,
                    is_list=is_list,
                    optional=optional,
                    choices=choices,
                    default=_default_of(field),
                    info=field.metadata[METADATA_KEY],
                )
            )
    return tuple(specs)


@functools.cache
def flags_by_spelling() -> Mapping[str, tuple[FlagSpec, ...]]:
    """Flag name or alias (without dashes) -> the fields it sets."""
    found: dict[str, tuple[FlagSpec, ...]] = {}
    for spec in all_flags():
        for spelling in spec.spellings:
            found[spelling] = (*found.get(spelling, ()), spec)
    return found


@functools.cache
def flags_by_key() -> Mapping[FlagKey, FlagSpec]:
    """All flags by (section, name)."""
    return {spec.key: spec for spec in all_flags()}
