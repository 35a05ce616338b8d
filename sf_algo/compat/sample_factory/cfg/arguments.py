"""Parses command lines of projects: the trainer's flags and those that the project adds."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sf_algo.app import App
from sf_algo.compat.sample_factory.cfg.project_flags import SECTION, converted, project_section, trainer_defaults
from sf_algo.compat.sample_factory.context import CONTEXT
from sf_algo.compat.sample_factory.envs.registered import makers
from sf_algo.config.command_line import parse_command_line
from sf_algo.config.entry import report_error
from sf_algo.config.flags import all_flags, section_types
from sf_algo.config.resolve import Command, configure
from sf_algo.config.sections import Config
from sf_algo.errors import SfAlgoError
from sf_algo.own.additions import Model

_PARTS = "sf_algo.compat.sample_factory.model.parts"


class ProjectParser(argparse.ArgumentParser):
    """Collects what a project adds; the trainer's own flags are not in it."""

    def __init__(self, evaluation: bool = False) -> None:
        super().__init__(add_help=False)
        self.evaluation = evaluation


class ProjectConfig(argparse.Namespace):
    """Every flag as an attribute, under all of its names, with the command that it came from."""

    app: App
    argv: list[str]
    parsed: dict[str, Any]
    """The values as they were parsed."""

    def words(self) -> list[str]:
        """The command line that stands for it: what was typed, and what the program has changed since."""
        changed = [name for name, value in self.parsed.items() if getattr(self, name, value) != value]
        return [*self.argv, *(word for name in changed for word in _typed(name, getattr(self, name)))]


def parse_sf_args(argv: Sequence[str] | None = None, evaluation: bool = False) -> tuple[ProjectParser, Any]:
    """A parser to add arguments to, and what is known of the command line so far: defaults, and the trainer's flags."""
    words = list(sys.argv[1:] if argv is None else argv)
    typed = parse_command_line(words)
    partial = argparse.Namespace(**{spec.name: spec.default for spec in all_flags()})
    for (_, name), value in typed.values.items():
        setattr(partial, name, value)
    return ProjectParser(evaluation), partial


def parse_full_cfg(parser: ProjectParser, argv: Sequence[str] | None = None) -> ProjectConfig:
    """The whole configuration; a stored one is taken over where an experiment is resumed or watched.

    Raises:
        SystemExit: for --help, and with one line for each fault.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    command = Command.ENJOY if parser.evaluation else Command.TRAIN
    try:
        defaults, others = trainer_defaults(parser)
        app = App(
            sections={SECTION: project_section(parser)},
            envs=makers(),
            defaults=defaults,
            model=Model(**{part: f"{_PARTS}:make_{part}" for part in CONTEXT.models.makers}),
        )
        if parse_command_line(words).help_wanted:
            sys.exit(app.main(["enjoy" if parser.evaluation else "train", *words]))
        config = configure(words, command, app).config
    except SfAlgoError as error:
        sys.exit(report_error(error))
    values = _flat(config) | converted(parser, vars(config.own[SECTION]))
    cfg = ProjectConfig(**{**others, **values})
    cfg.app, cfg.argv, cfg.parsed = app, words, values
    CONTEXT.cfg = cfg
    return cfg


def _flat(config: Config) -> dict[str, Any]:
    """Every flag of the trainer by name and by alias."""
    flat: dict[str, Any] = {}
    for section in section_types():
        part = getattr(config, section)
        flat |= {field.name: getattr(part, field.name) for field in fields(part)}
    for spec in all_flags():
        flat |= dict.fromkeys(spec.info.aliases, flat[spec.name])
    return {name: list(value) if isinstance(value, tuple) else value for name, value in flat.items()}


def _typed(name: str, value: Any) -> list[str]:
    return [f"--{name}", *map(str, value)] if isinstance(value, list | tuple) else [f"--{name}={value}"]
