"""``cfg.json``: the configuration of an experiment on disk. Strict: every flag is there and has its type."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sf_algo.config.flags import FlagKey, FlagValue, all_flags, flags_by_key, section_types
from sf_algo.config.sections import Config
from sf_algo.config.values import has_type, nearest, type_text
from sf_algo.errors import ConfigError
from sf_algo.files import write_bytes_atomically

CONFIG_FILE_NAME = "cfg.json"
FORMAT_VERSION = 2
TRANSIENT_SECTIONS = frozenset({"speed", "evaluation", "dummy"})
"""Sections about one invocation, not about the experiment: never stored."""

ADDED_SINCE: Mapping[int, Mapping[FlagKey, FlagValue]] = {2: {("rl", "vtrace_lambda"): 1.0}}
"""Flags added by each version after 1, with the value that means what older versions did."""


def stored_keys() -> list[FlagKey]:
    """Flags that cfg.json holds, in the order of `--help`."""
    return [spec.key for spec in all_flags() if spec.section not in TRANSIENT_SECTIONS]


def config_values(config: Config) -> dict[FlagKey, FlagValue]:
    """Every flag's value by section and name."""
    return {spec.key: getattr(getattr(config, spec.section), spec.name) for spec in all_flags()}


def config_to_dict(config: Config) -> dict[str, dict[str, Any]]:
    """Section -> flag -> value, for JSON; `config_from_dict` is its inverse, also after a trip through
    JSON."""
    sections: dict[str, dict[str, Any]] = {}
    for (section, name), value in config_values(config).items():
        sections.setdefault(section, {})[name] = value
    return sections


def config_from_dict(sections: Mapping[str, Mapping[str, Any]]) -> Config:
    """The configuration that `config_to_dict` described: between processes of one training, so without
    checks."""
    return make_config(
        {
            (section, name): tuple(value) if isinstance(value, list) else value
            for section, flags in sections.items()
            for name, value in flags.items()
        }
    )


def make_config(values: Mapping[FlagKey, FlagValue]) -> Config:
    """Builds the sections; flags that `values` leaves out keep their general default."""
    by_section: dict[str, dict[str, Any]] = {section: {} for section in section_types()}
    for (section, name), value in values.items():
        by_section[section][name] = value
    return Config(**{section: kind(**by_section[section]) for section, kind in section_types().items()})


def save_config(config: Config, directory: Path) -> None:
    """Writes ``cfg.json`` into `directory`. Raises StorageError when that cannot be done."""
    kept = {name: flags for name, flags in config_to_dict(config).items() if name not in TRANSIENT_SECTIONS}
    text = json.dumps({"version": FORMAT_VERSION, "config": kept}, indent=2, allow_nan=False)
    write_bytes_atomically(directory / CONFIG_FILE_NAME, text.encode() + b"\n", what="configuration")


def load_stored_values(path: Path) -> dict[FlagKey, FlagValue]:
    """Reads the values of a ``cfg.json``.

    Raises:
        ConfigError: no such file, not ours, of a newer version, or with unknown, missing or mistyped flags;
        all
            of them are listed.
    """
    sections, version = _read(path)
    found = {
        (section, name): tuple(value) if isinstance(value, list) else value
        for section, flags in sections.items()
        for name, value in flags.items()
    }
    for added_in, added in ADDED_SINCE.items():
        if version < added_in:
            found = {**added, **found}
    faults = _faults(found)
    if faults:
        raise ConfigError([f"{path}: {fault}" for fault in faults])
    return {
        key: float(value) if flags_by_key()[key].kind == "float" and isinstance(value, int) else value
        for key, value in found.items()
    }


def _read(path: Path) -> tuple[dict[str, dict[str, Any]], int]:
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
    return document["config"], version


def _faults(found: Mapping[FlagKey, object]) -> list[str]:
    known = stored_keys()
    faults = []
    for key in found.keys() - set(known):
        hint = nearest(key[1], [name for _, name in known])
        faults.append(f"unknown entry {key[0]}.{key[1]}" + (f"; did you mean {hint}?" if hint else ""))
    faults += [f"entry {section}.{name} is missing" for section, name in known if (section, name) not in found]
    for key, value in found.items():
        spec = flags_by_key().get(key)
        if spec is not None and not has_type(spec, value):
            faults.append(f"{key[0]}.{key[1]} is {json.dumps(value)}, but must be {type_text(spec)}")
    return sorted(faults)
