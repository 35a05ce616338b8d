"""What a user's program and environment add to the configuration: sections, names of environments, defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from sf_algo.config.env_family import FAMILY_SECTIONS, EnvFamily, family_of
from sf_algo.config.families import FAMILY_DEFAULTS
from sf_algo.config.flags import (
    ENV_ARGS,
    ENV_PREFIX,
    FlagKey,
    FlagSet,
    FlagSpec,
    FlagValue,
    NoFlagError,
    all_flags,
    section_types,
    specs_of,
)
from sf_algo.config.values import has_type, nearest, type_text
from sf_algo.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class EnvParameters:
    """What the maker of an environment can be told."""

    specs: tuple[FlagSpec, ...] = ()
    """Flags of the section `env_args`."""
    bare: bool = True
    """`--length` means the parameter, and not only `--env.length`."""
    is_open: bool = False
    """The maker takes any parameter."""


class Program(Protocol):
    """What the configuration has to know of a user's program. The trainer's own commands are one that adds nothing."""

    @property
    def path(self) -> str | None:
        """Where it can be imported from, as package.module:attribute."""

    @property
    def sections(self) -> Mapping[str, type]:
        """Own sections: name -> dataclass whose fields are flags."""

    def has_env(self, env: str | None) -> bool:
        """Whether it makes the environment of that name itself."""

    def defaults_for(self, env: str | None) -> Mapping[str, Any]:
        """Values for flags, by the flags' names, that lie under what the user says."""

    def parameters(self, env: str) -> EnvParameters:
        """What the maker of that environment can be told. May import the user's code. Raises SfAlgoError."""

    def find(self, path: str) -> Program:
        """The program that an import path names. Raises ConfigError."""


@dataclass(frozen=True)
class NoProgram:
    """Adds nothing and imports nothing."""

    path: str | None = None
    sections: Mapping[str, type] = field(default_factory=dict)

    def has_env(self, env: str | None) -> bool:
        return False

    def defaults_for(self, env: str | None) -> Mapping[str, Any]:
        return {}

    def parameters(self, env: str) -> EnvParameters:
        return EnvParameters()

    def find(self, path: str) -> Program:
        return self


NO_PROGRAM = NoProgram()


_TAKEN = frozenset(
    {
        ENV_ARGS,
        *("config", "name", "env_cfg", "placement", "render_mode", "training"),
        *("model_cfg", "obs_specs", "in_size", "num_action_params", "batch", "output"),
    }
)
"""Makers of environments and parts of networks get something else under these names."""


def program_family(program: Program, env: str | None) -> EnvFamily | None:
    """The family of an environment, given that a program may have named it."""
    return EnvFamily.CUSTOM if program.has_env(env) else family_of(env)


def flag_set(program: Program, env: str | None, *, parameters: bool) -> FlagSet:
    """All flags that a command line may name. `parameters`: those of the environment's maker too.

    Raises:
        ConfigError: a flag of the program's own is called like one of the trainer's, or cannot be one.
        SfAlgoError: the maker cannot be found.
    """
    family = program_family(program, env)
    # A name that only another family knows is free: it means nothing here.
    trainers = {
        spelling
        for spec in all_flags()
        if spec.section not in FAMILY_SECTIONS or FAMILY_SECTIONS[spec.section] is family
        for spelling in spec.spellings
    }
    own = _own_specs(program, trainers)
    wanted = program.parameters(env) if parameters and env else EnvParameters()
    taken = trainers | {spec.name for spec in own}
    makers = [replace(spec, only_prefixed=not wanted.bare or spec.name in taken) for spec in wanted.specs]
    return FlagSet((*all_flags(), *own, *makers), dict(program.sections), wanted.is_open)


def _own_specs(program: Program, trainers: set[str]) -> list[FlagSpec]:
    specs: list[FlagSpec] = []
    faults: list[str] = []
    who = program.path or "this program"
    seen: dict[str, str] = {}
    for section, kind in program.sections.items():
        if section in section_types() or section in _TAKEN or not section.isidentifier():
            faults.append(
                f"{who}: its section {section!r} needs another name: it is no identifier, or the trainer's own"
            )
        try:
            specs += specs_of(section, kind)
        except (NoFlagError, TypeError) as error:
            faults.append(f"{who}: section {section!r} cannot become flags: {error}")
    for spec in specs:
        for spelling in spec.spellings:
            if spelling in trainers:
                faults.append(
                    f"{who}: --{spelling} of its section {spec.section!r} is a flag of the trainer already; choose "
                    "another name"
                )
            elif spelling in seen:
                faults.append(f"{who}: --{spelling} is in two of its sections, {seen[spelling]!r} and {spec.section!r}")
            seen[spelling] = spec.section
    if faults:
        raise ConfigError(faults)
    return specs


def default_values(program: Program, env: str | None, flags: FlagSet) -> dict[FlagKey, FlagValue]:
    """General defaults, those of the environment's family over them, and the program's own over these. Raises
    ConfigError, as `program_values`."""
    values = {spec.key: spec.default for spec in flags.specs}
    family = program_family(program, env)
    values |= FAMILY_DEFAULTS[family] if family else {}
    return values | program_values(program, env, flags)


def program_values(program: Program, env: str | None, flags: FlagSet) -> dict[FlagKey, FlagValue]:
    """The program's own defaults. They are somebody's choice: rules that fit flags to each other leave them alone.

    Raises:
        ConfigError: the program has a default for a flag that does not exist, or of another type.
    """
    values: dict[FlagKey, FlagValue] = {}
    faults = []
    for name, value in program.defaults_for(env).items():
        who = f"{program.path or 'this program'}: its default {name}={value!r} for --env={env}"
        specs = flags.find(name)
        if specs is None:
            hint = nearest(name, flags.by_spelling)
            faults.append(f"{who} names no flag" + (f"; did you mean {hint}?" if hint else ""))
            continue
        settled = tuple(value) if isinstance(value, list) else value
        for spec in specs:
            if has_type(spec, settled):
                values[spec.key] = float(settled) if spec.kind == "float" and type(settled) is int else settled
            else:
                faults.append(f"{who} must be {type_text(spec)}")
    if faults:
        raise ConfigError(faults)
    return values


def hidden_parameters(flags: FlagSet, words: set[str]) -> list[str]:
    """Words (flags without dashes) that a user may have meant for the environment but that mean the trainer's flag."""
    hidden = [
        spec
        for spec in flags.of_section(ENV_ARGS)
        if spec.only_prefixed and spec.name in flags.by_spelling and spec.name in words
    ]
    return [
        f"--{spec.name} is the trainer's flag; the environment has a parameter of that name, which is "
        f"--{ENV_PREFIX}{spec.name}"
        for spec in hidden
        if ENV_PREFIX + spec.name not in words
    ]
