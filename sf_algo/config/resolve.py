"""From a command line to a `Config`: general defaults < family defaults < stored < typed values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from sf_algo.config.command_line import TypedFlags, family_faults, parse_command_line
from sf_algo.config.derive import derive_defaults
from sf_algo.config.env_family import EnvFamily
from sf_algo.config.flags import ENV_ARGS, ENV_PREFIX, FlagKey, FlagSet, FlagValue, flags_by_key, trainer_flags
from sf_algo.config.program import (
    NO_PROGRAM,
    Program,
    default_values,
    flag_set,
    hidden_parameters,
    program_family,
    program_values,
)
from sf_algo.config.run import RunConfig
from sf_algo.config.sections import Config
from sf_algo.config.store import (
    CONFIG_FILE_NAME,
    TRANSIENT_SECTIONS,
    ProgramFacts,
    StoredConfig,
    make_config,
    read_stored,
)
from sf_algo.config.validate import cross_check
from sf_algo.config.values import format_value
from sf_algo.errors import ConfigError


class Command(Enum):
    """The entry points that share the flags; the value is the module's name."""

    TRAIN = "sf_algo.train_appo"
    ENJOY = "sf_algo.enjoy_appo"
    LEAGUE = "sf_algo.league"
    RUN_ALGORITHM = "sf_algo.run_algorithm"

    @property
    def needs_experiment(self) -> bool:
        """It is about an experiment that has been trained already."""
        return self in (Command.ENJOY, Command.LEAGUE)


COMMON_SECTIONS = ("run", "env", "doom", "dmlab")
COMMAND_SECTIONS: Mapping[Command, tuple[str, ...]] = {
    Command.TRAIN: (*COMMON_SECTIONS, "sampling", "rl", "model", "pbt", "wandb", "speed", "accepted"),
    Command.ENJOY: (*COMMON_SECTIONS, "evaluation", "accepted"),
    Command.LEAGUE: (*COMMON_SECTIONS, "league", "evaluation"),
    Command.RUN_ALGORITHM: (*COMMON_SECTIONS, "sampling", "dummy"),
}
"""Sections whose flags have an effect in each command, in the order of its help."""


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """A command line, understood."""

    config: Config
    typed: frozenset[str]
    """Names of the flags that the user wrote."""
    program: Program = NO_PROGRAM
    """The user's program that this command belongs to, or that the experiment was trained with."""
    flags: FlagSet = field(default_factory=trainer_flags)
    """All flags that the command line could name."""
    resumed: bool = False
    """True when stored values were taken over from the experiment's ``cfg.json``."""
    notes: tuple[str, ...] = ()
    """Things the user should know: flags without effect here, stored values overridden."""


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """What an earlier start of the experiment has left."""

    values: Mapping[FlagKey, FlagValue]
    notes: Sequence[str] = ()


def parse_args(argv: Sequence[str], command: Command = Command.TRAIN, program: Program = NO_PROGRAM) -> Invocation:
    """Understands a command line without looking at the disk.

    Raises:
        ConfigError: with every fault found.
    """
    env = parse_command_line(argv).env
    flags = flag_set(program, env, parameters=needs_parameters(program, env, argv, None))
    return _resolve(parse_command_line(argv, flags), command, stored=None, program=program, flags=flags)


def configure(argv: Sequence[str], command: Command = Command.TRAIN, program: Program = NO_PROGRAM) -> Invocation:
    """As `parse_args`, and takes over the values stored by the experiment that is resumed or watched, with the program
    that it was trained with.

    Raises:
        ConfigError: with every fault found, those of the stored configuration included.
        SfAlgoError: the program or the environment that is named cannot be imported.
    """
    first = parse_command_line(argv)
    found = find_stored(first, command)
    if found is not None and found.app is not None and program.path is None:
        program = program.find(found.app)
    env = first.env or (found.env if found is not None else None)
    flags = flag_set(program, env, parameters=needs_parameters(program, env, argv, found))
    typed = parse_command_line(argv, flags)
    if found is None:
        return _resolve(typed, command, stored=None, program=program, flags=flags)
    if typed.faults:
        raise ConfigError(typed.faults)
    values, notes = found.checked(flags)
    stored = _Stored(values={**values, **_of_this_start(typed)}, notes=notes)
    return _resolve(typed, command, stored=stored, program=program, flags=flags)


def find_stored(typed: TypedFlags, command: Command) -> StoredConfig | None:
    """The configuration of the experiment that the command goes on with or watches. Raises ConfigError."""
    if command.needs_experiment or (command is Command.TRAIN and _resumes(typed)):
        path = _experiment_dir(typed) / CONFIG_FILE_NAME
        if command.needs_experiment or path.exists():
            return read_stored(path)
    return None


def needs_parameters(program: Program, env: str | None, argv: Sequence[str], stored: StoredConfig | None) -> bool:
    """Whether to ask what the environment's maker can be told. A registered environment is imported for that only where
    somebody tells it something."""
    if program_family(program, env) is EnvFamily.CUSTOM:
        return True
    told = stored is not None and any(section == ENV_ARGS for section, _ in stored.values)
    return told or any(word.startswith("--" + ENV_PREFIX) for word in argv)


def _resolve(
    typed: TypedFlags, command: Command, stored: _Stored | None, program: Program, flags: FlagSet
) -> Invocation:
    before = stored.values if stored is not None else {}
    env = typed.env or str(before.get(("run", "env")) or "") or None
    chosen = {**before, **typed.values}
    values: dict[FlagKey, Any] = {**default_values(program, env, flags), **chosen}
    derive_defaults(values, {**program_values(program, env, flags), **chosen})
    facts = ProgramFacts(sections=program.sections, path=program.path, names_env=program.has_env(env))
    config = make_config(values, facts)
    faults = [
        *typed.faults,
        *family_faults(typed.values, env, config.env_family),
        *_other_family(typed, command, stored, program),
    ]
    if command is Command.TRAIN and config.run.algo != "APPO":
        faults.append(f"--algo={config.run.algo}: start it with python -m {Command.RUN_ALGORITHM.value}")
    faults += [f for f in cross_check(config) if not _mentions(f, typed.faulty)]
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))
    return Invocation(
        config=config,
        typed=frozenset(name for _, name in typed.values),
        program=program,
        flags=flags,
        resumed=stored is not None,
        notes=(
            *(stored.notes if stored is not None else ()),
            *hidden_parameters(flags, typed.words),
            *_without_effect(typed, command, config, flags),
            *_overridden(typed, command, stored, flags),
            *_hints(config, command),
        ),
    )


def _mentions(fault: str, flags: set[str]) -> bool:
    return not flags.isdisjoint(re.findall(r"--(\w+)", fault))


def _resumes(typed: TypedFlags) -> bool:
    return typed.values.get(("run", "restart_behavior"), "resume") == "resume"


_OF_ONE_START = ("train_dir", "experiments_root", "experiment", "restart_behavior", "load_checkpoint_kind")
"""Flags of the section `run` that are never taken from an earlier start. Folders get moved, and nobody who
once asked to begin anew wants that again with every resume."""


_OF_EVALUATION_TOO = (("run", "seed"), ("run", "device"))
"""What an evaluation chooses for itself."""


def _of_this_start(typed: TypedFlags) -> dict[FlagKey, FlagValue]:
    keys = [("run", name) for name in _OF_ONE_START]
    return {key: typed.values.get(key, flags_by_key()[key].default) for key in keys}


def _experiment_dir(typed: TypedFlags) -> Path:
    names: dict[str, Any] = {name: value for (_, name), value in _of_this_start(typed).items()}
    return RunConfig(**names).experiment_dir


def _other_family(typed: TypedFlags, command: Command, stored: _Stored | None, program: Program) -> list[str]:
    if stored is None or typed.env is None:
        return []
    before = str(stored.values["run", "env"])
    if program_family(program, before) is program_family(program, typed.env):
        return []
    anew = ", or --restart_behavior=restart to begin anew" if command is Command.TRAIN else ""
    return [f"--env={typed.env}: this experiment was trained on {before}; choose another --experiment{anew}"]


def _without_effect(typed: TypedFlags, command: Command, config: Config, flags: FlagSet) -> list[str]:
    """Flags that are valid but do nothing in this command or without their main switch."""
    useful = {*COMMAND_SECTIONS[command], *flags.own_sections, ENV_ARGS}
    if command is Command.RUN_ALGORITHM and config.run.algo == "APPO":
        useful |= set(COMMAND_SECTIONS[Command.TRAIN])
    names = {name for section, name in typed.values if section in useful}
    notes = []
    if command is not Command.ENJOY:
        idle = sorted({name for _, name in typed.values} - names)
        if idle:
            notes.append(f"no effect in this command: {_dashed(idle)}")
    for key, value in typed.values.items():
        spec = flags.spec(key)
        if spec is not None and spec.info.idle and value != spec.default:
            notes.append(f"--{spec.name} has no effect: {spec.info.idle}")
    alone = ("pbt_mix_policies_in_one_env", "per_policy")
    for section, switch in (("pbt", "with_pbt"), ("wandb", "with_wandb")):
        asked = sorted(n for s, n in typed.values if s == section and n not in (switch, *alone))
        if asked and section in useful and not getattr(getattr(config, section), switch):
            notes.append(f"no effect without --{switch}=True: {_dashed(asked)}")
    return notes


def _overridden(typed: TypedFlags, command: Command, stored: _Stored | None, flags: FlagSet) -> list[str]:
    if stored is None:
        return []
    changes = []
    for key, value in typed.values.items():
        spec, before = flags.spec(key), stored.values.get(key, value)
        same = before == value or key[0] in TRANSIENT_SECTIONS
        if spec is not None and not same and not (command.needs_experiment and key in _OF_EVALUATION_TOO):
            changes.append(f"--{spec.spellings[0]} {format_value(before)} -> {format_value(value)}")
    return [f"changed against the stored configuration: {', '.join(changes)}"] if changes else []


def _hints(config: Config, command: Command) -> list[str]:
    """Combinations that work but are hardly meant."""
    rl, limit = config.rl, config.run.env_steps_limit
    samples = rl.batch_size * rl.num_batches_per_iteration
    hints = []
    if command is Command.TRAIN and limit is not None and 0 < limit < samples:
        hints.append(
            f"--train_for_env_steps={limit} is less than one iteration of {samples} samples (batch_size x "
            "num_batches_per_iteration): the training ends after that one"
        )
    if command is Command.TRAIN and config.pbt.with_pbt:
        hints += _population_hints(config)
    return hints


def _population_hints(config: Config) -> list[str]:
    policies, limit, begin = config.sampling.num_policies, config.run.env_steps_limit, config.pbt.pbt_start_mutation
    if policies == 1:
        return ["--with_pbt=True with --num_policies=1: there is nobody to take over from, so nothing ever happens"]
    if limit is not None and limit / policies < begin:
        return [
            f"--train_for_env_steps={limit} is {limit // policies} frames for each of {policies} policies, but "
            f"--pbt_start_mutation={begin} comes first: the population will not change"
        ]
    return []


def _dashed(names: Sequence[str]) -> str:
    return ", ".join(f"--{name}" for name in names)
