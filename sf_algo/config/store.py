"""``cfg.json``: the configuration of an experiment on disk. Strict: every flag is there and has its type."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sf_algo.config.flags import (
    ENV_ARGS,
    FlagKey,
    FlagSet,
    FlagValue,
    all_flags,
    section_types,
    trainer_flags,
)
from sf_algo.config.sections import Config
from sf_algo.config.values import has_type, nearest, type_text
from sf_algo.errors import ConfigError
from sf_algo.files import write_bytes_atomically

CONFIG_FILE_NAME = "cfg.json"
FORMAT_VERSION = 6
TRANSIENT_SECTIONS = frozenset({"speed", "evaluation", "league", "dummy", "accepted"})
"""Sections about one invocation, not about the experiment: never stored."""

ADDED_SINCE: Mapping[int, Mapping[FlagKey, FlagValue]] = {
    2: {("rl", "vtrace_lambda"): 1.0},
    3: {
        ("model", "core_custom"): None,
        ("model", "decoder_custom"): None,
        ("model", "actor_critic_custom"): None,
    },
    4: {("rl", "extra_losses"): (), ("env", "step_fields"): ()},
    5: {("rl", "vtrace_weighs_advantages"): True},
    6: {
        ("pbt", "per_policy"): (),
        ("sampling", "self_play"): "current",
        ("sampling", "self_play_fraction"): 0.5,
        ("sampling", "self_play_pool"): 10,
        ("sampling", "self_play_opponents"): 1,
        ("sampling", "self_play_choice"): "uniform",
        ("sampling", "self_play_period_env_steps"): 1_000_000,
        ("doom", "match_port"): None,
        ("dmlab", "dmlab_level_cache_max_gb"): None,
        ("dmlab", "dmlab_test_levels"): False,
        ("sampling", "num_learners"): 1,
        ("sampling", "cuda_graphs"): False,
        ("model", "precision"): "float32",
    },
}
"""Flags added by each version after 1, with the value that means what older versions did."""


def stored_keys() -> list[FlagKey]:
    """The trainer's flags that are in every ``cfg.json``."""
    return [spec.key for spec in all_flags() if spec.section not in TRANSIENT_SECTIONS]


def config_values(config: Config) -> dict[FlagKey, FlagValue]:
    """Every flag's value by section and name, those of a user's program and environment included."""
    values = {spec.key: getattr(getattr(config, spec.section), spec.name) for spec in all_flags()}
    for section, own in config.own.items():
        values |= {(section, one.name): getattr(own, one.name) for one in dataclasses.fields(own)}
    return values | {(ENV_ARGS, name): value for name, value in config.env_args.items()}


def config_to_dict(config: Config) -> dict[str, dict[str, Any]]:
    """Section -> flag -> value, for JSON; `config_from_dict` is its inverse, also after a trip through
    JSON."""
    sections: dict[str, dict[str, Any]] = {}
    for (section, name), value in config_values(config).items():
        sections.setdefault(section, {})[name] = value
    return sections


@dataclass(frozen=True, kw_only=True)
class ProgramFacts:
    """What a `Config` says about the user's program."""

    sections: Mapping[str, type] = dataclasses.field(default_factory=dict)
    path: str | None = None
    names_env: bool = False


NO_FACTS = ProgramFacts()


def config_from_dict(sections: Mapping[str, Mapping[str, Any]], facts: ProgramFacts = NO_FACTS) -> Config:
    """The configuration that `config_to_dict` described: between processes of one training, so without
    checks."""
    return make_config(
        {
            (section, name): tuple(value) if isinstance(value, list) else value
            for section, flags in sections.items()
            for name, value in flags.items()
        },
        facts,
    )


def make_config(values: Mapping[FlagKey, FlagValue], facts: ProgramFacts = NO_FACTS) -> Config:
    """Builds the sections; flags that `values` leaves out keep their general default."""
    by_section: dict[str, dict[str, Any]] = {ENV_ARGS: {}}
    by_section |= {section: {} for section in (*section_types(), *facts.sections)}
    for (section, name), value in values.items():
        by_section[section][name] = value
    return Config(
        **{section: kind(**by_section[section]) for section, kind in section_types().items()},
        own={section: kind(**by_section[section]) for section, kind in facts.sections.items()},
        env_args=by_section[ENV_ARGS],
        app=facts.path,
        names_env=facts.names_env,
    )


def save_config(config: Config, directory: Path) -> None:
    """Writes ``cfg.json`` into `directory`. Raises StorageError when that cannot be done."""
    kept = {name: flags for name, flags in config_to_dict(config).items() if name not in TRANSIENT_SECTIONS}
    app = {} if config.app is None else {"app": config.app}
    text = json.dumps({"version": FORMAT_VERSION, **app, "config": kept}, indent=2, allow_nan=False)
    write_bytes_atomically(directory / CONFIG_FILE_NAME, text.encode() + b"\n", what="configuration")


@dataclass(frozen=True, kw_only=True)
class StoredConfig:
    """A ``cfg.json`` as it was read: its flags are not checked yet, because which ones there are depends on the program
    and the environment that it names."""

    path: Path
    version: int
    app: str | None
    values: Mapping[FlagKey, Any]

    @property
    def env(self) -> str | None:
        env = self.values.get(("run", "env"))
        return str(env) if env else None

    def checked(self, flags: FlagSet) -> tuple[dict[FlagKey, FlagValue], list[str]]:
        """The values, and what there is to be told about them. A program or an environment may have changed since: what
        it has no flag for any more is left out, what is new has its default.

        Raises:
            ConfigError: unknown, missing or mistyped flags of the trainer; all of them are listed.
        """
        known = {
            key: value for key, value in self.values.items() if key[0] in section_types() or flags.spec(key) is not None
        }
        gone = self.values.keys() - known.keys()
        foreign = [key for key in gone if key[0] != ENV_ARGS and key[0] not in flags.own_sections]
        faults = _faults({**known, **{key: self.values[key] for key in foreign}}, flags)
        if faults:
            raise ConfigError([f"{self.path}: {fault}" for fault in faults])
        notes = [
            f"{self.path}: {section}.{name}={self.values[section, name]} is left out, because there is no such "
            "parameter any more"
            for section, name in sorted(gone)
        ]
        specs = {key: flags.spec(key) for key in known}
        return {
            key: float(value) if (spec := specs[key]) and spec.kind == "float" and isinstance(value, int) else value
            for key, value in known.items()
        }, notes


def read_stored(path: Path) -> StoredConfig:
    """Reads a ``cfg.json``.

    Raises:
        ConfigError: no such file, not ours, or of a newer version.
    """
    document, version = _read(path)
    found = {
        (section, name): tuple(value) if isinstance(value, list) else value
        for section, flags in document["config"].items()
        for name, value in flags.items()
    }
    for added_in, added in ADDED_SINCE.items():
        if version < added_in:
            found = {**added, **found}
    app = document.get("app")
    return StoredConfig(path=path, version=version, app=app if isinstance(app, str) else None, values=found)


def load_stored_values(path: Path) -> dict[FlagKey, FlagValue]:
    """The values of a ``cfg.json`` that knows the trainer's own flags only. Raises ConfigError."""
    return read_stored(path).checked(trainer_flags())[0]


def _read(path: Path) -> tuple[dict[str, Any], int]:
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist: no experiment there; check --train_dir, --experiments_root and --experiment"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON ({error}); restore it or use another --experiment") from error
    version = document.get("version") if isinstance(document, dict) else None
    if not isinstance(version, int) or not isinstance(document.get("config"), dict):
        raise ConfigError(f"{path} is not a configuration of this trainer; use another --experiment")
    if version > FORMAT_VERSION:
        raise ConfigError(
            f"{path} has format version {version}, newer than {FORMAT_VERSION}: update this package to use it"
        )
    if not all(isinstance(section, dict) for section in document["config"].values()):
        raise ConfigError(f"{path} is not a configuration of this trainer; use another --experiment")
    return document, version


def _faults(found: Mapping[FlagKey, object], flags: FlagSet) -> list[str]:
    known = [*stored_keys(), *(spec.key for spec in flags.specs if spec.section not in section_types())]
    faults = []
    for key in found.keys() - set(known):
        if flags.spec(key) is None or key[0] in TRANSIENT_SECTIONS:
            hint = nearest(key[1], [name for _, name in known])
            known_section = key[0] in section_types() or key[0] == ENV_ARGS
            lost = "; it is of a program of your own: start that instead"
            remedy = (f"; did you mean {hint}?" if hint else "") if known_section else lost
            faults.append(f"unknown entry {key[0]}.{key[1]}{remedy}")
    faults += [f"entry {section}.{name} is missing" for section, name in stored_keys() if (section, name) not in found]
    for key, value in found.items():
        spec = flags.spec(key)
        if spec is not None and not has_type(spec, value):
            faults.append(f"{key[0]}.{key[1]} is {json.dumps(value)}, but must be {type_text(spec)}")
    return sorted(faults)
