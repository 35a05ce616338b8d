"""From a command line to a `Config`: general defaults < family defaults < stored < typed values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from sf_algo.config.command_line import TypedFlags, family_faults, parse_command_line
from sf_algo.config.derive import derive_defaults
from sf_algo.config.families import FAMILY_DEFAULTS, family_of
from sf_algo.config.flags import FlagKey, FlagValue, all_flags, flags_by_key
from sf_algo.config.run import RunConfig
from sf_algo.config.sections import Config
from sf_algo.config.store import CONFIG_FILE_NAME, TRANSIENT_SECTIONS, load_stored_values, make_config
from sf_algo.config.validate import cross_check
from sf_algo.config.values import format_value
from sf_algo.errors import ConfigError


class Command(Enum):
    """The entry points that share the flags; the value is the module's name."""

    TRAIN = "sf_algo.train_appo"
    ENJOY = "sf_algo.enjoy_appo"
    RUN_ALGORITHM = "sf_algo.run_algorithm"


COMMON_SECTIONS = ("run", "env", "doom", "dmlab")
COMMAND_SECTIONS: Mapping[Command, tuple[str, ...]] = {
    Command.TRAIN: (*COMMON_SECTIONS, "sampling", "rl", "model", "pbt", "wandb", "speed"),
    Command.ENJOY: (*COMMON_SECTIONS, "evaluation"),
    Command.RUN_ALGORITHM: (*COMMON_SECTIONS, "sampling", "dummy"),
}
"""Sections whose flags have an effect in each command, in the order of its help."""


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """A command line, understood."""

    config: Config
    typed: frozenset[str]
    """Names of the flags that the user wrote."""
    resumed: bool = False
    """True when stored values were taken over from the experiment's ``cfg.json``."""
    notes: tuple[str, ...] = ()
    """Things the user should know: flags without effect here, stored values overridden."""


def parse_args(argv: Sequence[str], command: Command = Command.TRAIN) -> Invocation:
    """Understands a command line without looking at the disk.

    Raises:
        ConfigError: with every fault found.
    """
    return _resolve(parse_command_line(argv), command, stored=None)


def configure(argv: Sequence[str], command: Command = Command.TRAIN) -> Invocation:
    """As `parse_args`, and takes over the values stored by the experiment that is resumed or watched.

    Raises:
        ConfigError: with every fault found, those of the stored configuration included.
    """
    typed = parse_command_line(argv)
    stored = None
    if command is Command.ENJOY or (command is Command.TRAIN and _resumes(typed)):
        path = _experiment_dir(typed) / CONFIG_FILE_NAME
        if command is Command.ENJOY or path.exists():
            if typed.faults:
                raise ConfigError(typed.faults)
            stored = {**load_stored_values(path), **_of_this_start(typed)}
    return _resolve(typed, command, stored=stored)


def default_values(env: str | None) -> dict[FlagKey, FlagValue]:
    """General defaults with those of the environment's family on top."""
    values = {spec.key: spec.default for spec in all_flags()}
    family = family_of(env)
    return {**values, **(FAMILY_DEFAULTS[family] if family else {})}


def _resolve(typed: TypedFlags, command: Command, stored: Mapping[FlagKey, FlagValue] | None) -> Invocation:
    env = typed.env or str((stored or {}).get(("run", "env")) or "") or None
    chosen = {**(stored or {}), **typed.values}
    values: dict[FlagKey, Any] = {**default_values(env), **chosen}
    derive_defaults(values, chosen)
    config = make_config(values)
    faults = [*typed.faults, *family_faults(typed.values, env), *_other_family(typed, command, stored)]
    if command is Command.TRAIN and config.run.algo != "APPO":
        faults.append(f"--algo={config.run.algo}: start it with python -m {Command.RUN_ALGORITHM.value}")
    faults += [f for f in cross_check(config) if not _mentions(f, typed.faulty)]
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))
    return Invocation(
        config=config,
        typed=frozenset(name for _, name in typed.values),
        resumed=stored is not None,
        notes=(
            *_without_effect(typed, command, config),
            *_overridden(typed, command, stored),
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


def _other_family(typed: TypedFlags, command: Command, stored: Mapping[FlagKey, FlagValue] | None) -> list[str]:
    if stored is None or typed.env is None:
        return []
    before = str(stored["run", "env"])
    if family_of(before) is family_of(typed.env):
        return []
    anew = ", or --restart_behavior=restart to begin anew" if command is Command.TRAIN else ""
    return [f"--env={typed.env}: this experiment was trained on {before}; choose another --experiment{anew}"]


def _without_effect(typed: TypedFlags, command: Command, config: Config) -> list[str]:
    """Flags that are valid but do nothing in this command or without their main switch."""
    useful = set(COMMAND_SECTIONS[command])
    if command is Command.RUN_ALGORITHM and config.run.algo == "APPO":
        useful |= set(COMMAND_SECTIONS[Command.TRAIN])
    names = {name for section, name in typed.values if section in useful}
    notes = []
    if command is not Command.ENJOY:
        idle = sorted({name for _, name in typed.values} - names)
        if idle:
            notes.append(f"no effect in this command: {_dashed(idle)}")
    for key, value in typed.values.items():
        spec = flags_by_key()[key]
        if spec.info.idle and value != spec.default:
            notes.append(f"--{spec.name} has no effect: {spec.info.idle}")
    mix = "pbt_mix_policies_in_one_env"
    for section, switch in (("pbt", "with_pbt"), ("wandb", "with_wandb")):
        flags = sorted(n for s, n in typed.values if s == section and n not in (switch, mix))
        if flags and section in useful and not getattr(getattr(config, section), switch):
            notes.append(f"no effect without --{switch}=True: {_dashed(flags)}")
    return notes


def _overridden(typed: TypedFlags, command: Command, stored: Mapping[FlagKey, FlagValue] | None) -> list[str]:
    if stored is None:
        return []
    changes = [
        f"--{key[1]} {format_value(stored[key])} -> {format_value(value)}"
        for key, value in typed.values.items()
        if key[0] not in TRANSIENT_SECTIONS
        and stored[key] != value
        and not (command is Command.ENJOY and key in _OF_EVALUATION_TOO)
    ]
    return [f"changed against the stored configuration: {', '.join(changes)}"] if changes else []


def _hints(config: Config, command: Command) -> list[str]:
    """Combinations that work but are hardly meant."""
    rl, limit = config.rl, config.run.env_steps_limit
    samples = rl.batch_size * rl.num_batches_per_iteration
    if command is not Command.TRAIN or limit is None or not 0 < limit < samples:
        return []
    return [
        f"--train_for_env_steps={limit} is less than one iteration of {samples} samples (batch_size x "
        "num_batches_per_iteration): the training ends after that one"
    ]


def _dashed(names: Sequence[str]) -> str:
    return ", ".join(f"--{name}" for name in names)
