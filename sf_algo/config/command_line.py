"""Turns command-line words into typed flag values; collects every fault instead of stopping at the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sf_algo.config.env_family import EnvFamily, understands
from sf_algo.config.flags import ENV_PREFIX, FlagKey, FlagSet, FlagSpec, FlagValue, trainer_flags
from sf_algo.config.values import BadValueError, nearest, parse_value

HELP_WORDS = frozenset({"-h", "--help"})


@dataclass(kw_only=True)
class TypedFlags:
    """What the user typed: values by section and name, and everything wrong with the command line."""

    values: dict[FlagKey, FlagValue] = field(default_factory=dict)
    words: set[str] = field(default_factory=set)
    """Flags as they were spelled, without dashes."""
    faults: list[str] = field(default_factory=list)
    faulty: set[str] = field(default_factory=set)
    """Names of known flags whose values were not understood: their defaults must not be judged."""
    help_wanted: bool = False

    @property
    def env(self) -> str | None:
        value = self.values.get(("run", "env"))
        return None if value is None else str(value)


@dataclass(frozen=True, kw_only=True)
class _Word:
    """One flag as typed: its spelling, and the words that are its value (none for a bare ``--flag``)."""

    spelling: str
    texts: tuple[str, ...]

    @property
    def shown(self) -> str:
        return f"--{self.spelling}" + (f"={' '.join(self.texts)}" if self.texts else "")


def parse_command_line(argv: Sequence[str], flags: FlagSet | None = None) -> TypedFlags:
    """Reads ``--name=value``, ``--name value``, ``--list a b c`` and bare booleans; the last of a repeated
    flag wins, so that a launcher can append its parameters to a command. `flags`: which ones there are; by default the
    trainer's own."""
    flags = flags or trainer_flags()
    typed = TypedFlags()
    for word in _split(argv, typed, flags):
        typed.words.add(word.spelling)
        specs = flags.find(word.spelling)
        if specs is None:
            typed.faults.append(_unknown(word.spelling, flags))
            continue
        try:
            value = _value_of(specs[0], word)
        except BadValueError as fault:
            typed.faults.append(f"{word.shown}: {fault}")
            typed.faulty.add(specs[0].name)
            continue
        for spec in specs:
            typed.values[spec.key] = value
    return typed


def _split(argv: Sequence[str], typed: TypedFlags, flags: FlagSet) -> list[_Word]:
    """Groups words into flags; a word without a flag in front is a fault."""
    words: list[_Word] = []
    rest = list(argv)
    while rest:
        head = rest.pop(0)
        if head in HELP_WORDS:
            typed.help_wanted = True
        elif not head.startswith("--") or head == "--":
            typed.faults.append(f"{head!r} is not a flag: write --name=value, with quotes around blanks")
        elif "=" in head:
            spelling, text = head[2:].split("=", 1)
            words.append(_Word(spelling=spelling, texts=(text, *_values_after(flags.find(spelling), rest, given=1))))
        else:
            words.append(_Word(spelling=head[2:], texts=tuple(_values_after(flags.find(head[2:]), rest, given=0))))
    return words


def _values_after(specs: Sequence[FlagSpec] | None, rest: list[str], *, given: int) -> list[str]:
    """Takes from `rest` the words that belong to the flag: all up to the next flag for a list, else one."""
    is_list = specs is not None and specs[0].is_list
    taken: list[str] = []
    while rest and not rest[0].startswith("--") and rest[0] != "-h" and (is_list or given + len(taken) < 1):
        taken.append(rest.pop(0))
    return taken


def _value_of(spec: FlagSpec, word: _Word) -> FlagValue:
    if not word.texts and not spec.is_list:
        if spec.kind in ("bool", "any"):
            return True
        raise BadValueError("a value is missing")
    value = parse_value(spec, word.texts)
    check_bounds(spec, value)
    return value


def check_bounds(spec: FlagSpec, value: FlagValue) -> None:
    """Raises BadValueError when a number lies outside the flag's bounds."""
    info = spec.info
    because = f" ({info.why})" if info.why else ""
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, bool) or not isinstance(number, int | float):
            continue
        if info.at_least is not None and number < info.at_least:
            raise BadValueError(f"must be at least {info.at_least:g}{because}")
        if info.above is not None and number <= info.above:
            raise BadValueError(f"must be greater than {info.above:g}{because}")
        if info.at_most is not None and number > info.at_most:
            raise BadValueError(f"must be at most {info.at_most:g}{because}")


def _unknown(spelling: str, flags: FlagSet) -> str:
    if spelling.startswith(ENV_PREFIX):
        there = [ENV_PREFIX + spec.name for spec in flags.specs if ENV_PREFIX + spec.name in spec.spellings]
        hint = nearest(spelling, there)
        known = f"it knows {', '.join('--' + name for name in there)}" if there else "it knows none"
        remedy = f"did you mean --{hint}?" if hint else known
        return f"unknown flag --{spelling}: the environment has no such parameter; {remedy}"
    if flags.open_env_args or ENV_PREFIX + spelling in flags.by_spelling:
        return f"unknown flag --{spelling}; a parameter of the environment is written --{ENV_PREFIX}{spelling}"
    hint = nearest(spelling.replace("-", "_"), flags.by_spelling)
    remedy = f"did you mean --{hint}?" if hint else "--help lists all flags"
    return f"unknown flag --{spelling}; {remedy}"


def family_faults(typed: Mapping[FlagKey, FlagValue], env: str | None, family: EnvFamily | None) -> list[str]:
    """Typed flags that only another family of environments than that of `env` understands. A name that several sections
    share is fine when one of them is understood."""
    understood = {name for section, name in typed if understands(family, section)}
    strange = {name: section for section, name in typed if name not in understood}
    return [
        f"--{name} is a flag of {EnvFamily(section).value}_* environments; --env={env} does not know it: remove it"
        for name, section in strange.items()
    ]
