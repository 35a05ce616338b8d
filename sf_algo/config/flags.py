"""The flags there are: those of the trainer, derived once from the sections' fields, and those that a user's program
and environment add."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sf_algo.config.flag import METADATA_KEY, FlagInfo
from sf_algo.config.sections import Config

Kind = Literal["bool", "int", "float", "str", "any"]
FlagValue = bool | int | float | str | None | tuple[int | float | str, ...]
FlagKey = tuple[str, str]
"""Section name and flag name: what a value belongs to."""

ENV_ARGS = "env_args"
"""The section of what an environment's own maker takes: its flags depend on the environment."""
ENV_PREFIX = "env."
"""`--env.KEY=VALUE` always means a parameter of the environment's maker."""


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
    only_prefixed: bool = False
    """A parameter of a maker whose bare name means something else."""

    @property
    def key(self) -> FlagKey:
        return (self.section, self.name)

    @property
    def spellings(self) -> tuple[str, ...]:
        """The first is the one that messages and the help use."""
        if self.section != ENV_ARGS:
            return (self.name, *self.info.aliases)
        prefixed = ENV_PREFIX + self.name
        return (prefixed,) if self.only_prefixed else (self.name, prefixed)


class NoFlagError(TypeError):
    """The annotation describes nothing that a command line could say."""


def kind_of(annotation: Any) -> tuple[Kind, bool, bool, tuple[str, ...]]:
    """Kind, is_list, optional and choices of an annotation. Raises NoFlagError."""
    origin = typing.get_origin(annotation)
    if origin is types.UnionType or origin is typing.Union:
        inner = [a for a in typing.get_args(annotation) if a is not type(None)]
        if len(inner) != 1 or len(inner) == len(typing.get_args(annotation)):
            raise NoFlagError(f"a flag's type is one type or None, not {annotation}")
        kind, is_list, _, choices = kind_of(inner[0])
        return kind, is_list, True, choices
    if origin is Literal:
        if not all(isinstance(choice, str) for choice in typing.get_args(annotation)):
            raise NoFlagError(f"the choices of a flag are texts, not {annotation}")
        return "str", False, False, typing.get_args(annotation)
    if origin in (tuple, list):
        of = [a for a in typing.get_args(annotation) if a is not Ellipsis]
        if len(set(of)) != 1:
            raise NoFlagError(f"the items of a list are of one type, not {annotation}")
        kind, is_list, optional, choices = kind_of(of[0])
        if is_list or optional:
            raise NoFlagError(f"the items of a list are plain values, not {annotation}")
        return kind, True, False, choices
    kinds: dict[Any, Kind] = {bool: "bool", int: "int", float: "float", str: "str"}
    if annotation not in kinds:
        raise NoFlagError(f"a flag is a truth value, a number, a text or a list of these, not {annotation}")
    return kinds[annotation], False, False, ()


def specs_of(section: str, section_type: type) -> Iterator[FlagSpec]:
    """The flags of one section. Raises NoFlagError for a field that cannot be one."""
    hints = typing.get_type_hints(section_type)
    for one in dataclasses.fields(section_type):
        try:
            kind, is_list, optional, choices = kind_of(hints[one.name])
            default = _default_of(one)
        except NoFlagError as error:
            raise NoFlagError(f"{section_type.__name__}.{one.name}: {error}") from error
        yield FlagSpec(
            section=section,
            name=one.name,
            kind=kind,
            is_list=is_list,
            optional=optional,
            choices=choices,
            default=tuple(default) if isinstance(default, list) else default,
            info=one.metadata.get(METADATA_KEY, FlagInfo(help="")),
        )


def _default_of(one: dataclasses.Field[Any]) -> FlagValue:
    if one.default_factory is not dataclasses.MISSING:
        return typing.cast(FlagValue, one.default_factory())
    if one.default is dataclasses.MISSING:
        raise NoFlagError("a flag needs a default")
    return typing.cast(FlagValue, one.default)


@functools.cache
def section_types() -> Mapping[str, type]:
    """Section name -> its dataclass, in the order of `Config`: the trainer's own."""
    hints: dict[str, Any] = typing.get_type_hints(Config)
    return {name: hint for name, hint in hints.items() if isinstance(hint, type) and dataclasses.is_dataclass(hint)}


@functools.cache
def all_flags() -> tuple[FlagSpec, ...]:
    """Every flag of every section of the trainer, in declaration order. A name may occur in more than one section."""
    return tuple(spec for section, kind in section_types().items() for spec in specs_of(section, kind))


@dataclass(frozen=True)
class FlagSet:
    """The flags of one command line: the trainer's, and what a program and an environment add (later ones hide earlier
    ones of the same name)."""

    specs: tuple[FlagSpec, ...]
    own_sections: Mapping[str, type] = field(default_factory=dict)
    """Sections of a user's program: name -> dataclass."""
    open_env_args: bool = False
    """The environment's maker takes any parameter, so that every `--env.KEY` is a flag."""

    @functools.cached_property
    def by_spelling(self) -> Mapping[str, tuple[FlagSpec, ...]]:
        """Flag name or alias (without dashes) -> the fields it sets."""
        found: dict[str, tuple[FlagSpec, ...]] = {}
        for spec in self.specs:
            own = spec.section not in section_types()
            for spelling in spec.spellings:
                found[spelling] = (spec,) if own else (*found.get(spelling, ()), spec)
        return found

    @functools.cached_property
    def by_key(self) -> Mapping[FlagKey, FlagSpec]:
        return {spec.key: spec for spec in self.specs}

    def find(self, spelling: str) -> tuple[FlagSpec, ...] | None:
        """The fields that a word of the command line sets; None where there is no such flag."""
        found = self.by_spelling.get(spelling)
        name = spelling.removeprefix(ENV_PREFIX)
        if found is None and self.open_env_args and name != spelling and name.isidentifier():
            return (env_arg(name),)
        return found

    def spec(self, key: FlagKey) -> FlagSpec | None:
        """The flag of that section and name."""
        found = self.by_key.get(key)
        return env_arg(key[1]) if found is None and self.open_env_args and key[0] == ENV_ARGS else found

    def of_section(self, section: str) -> Sequence[FlagSpec]:
        return [spec for spec in self.specs if spec.section == section]


def env_arg(name: str) -> FlagSpec:
    """A parameter of an environment's maker of which nothing is known but its name."""
    return FlagSpec(
        section=ENV_ARGS,
        name=name,
        kind="any",
        is_list=False,
        optional=True,
        choices=(),
        default=None,
        info=FlagInfo(help=""),
        only_prefixed=True,
    )


@functools.cache
def trainer_flags() -> FlagSet:
    """The trainer's own flags and no others."""
    return FlagSet(all_flags())


def flags_by_spelling() -> Mapping[str, tuple[FlagSpec, ...]]:
    """The trainer's flags: name or alias (without dashes) -> the fields it sets."""
    return trainer_flags().by_spelling


def flags_by_key() -> Mapping[FlagKey, FlagSpec]:
    """The trainer's flags by section and name."""
    return trainer_flags().by_key
