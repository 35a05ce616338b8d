"""The text of ``--help``: grouped by section, for one command and one family of environments."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping

from sf_algo.config.families import FAMILY_SECTIONS, EnvFamily, family_of, understands
from sf_algo.config.flags import FlagSpec, all_flags
from sf_algo.config.resolve import COMMAND_SECTIONS, Command, default_values
from sf_algo.config.values import format_value

TITLES = {
    "run": "Experiment",
    "env": "Environment",
    "doom": "VizDoom environments",
    "dmlab": "DeepMind Lab environments",
    "sampling": "Sampling: workers, policies, supervision",
    "rl": "Learning",
    "model": "Network",
    "pbt": "Population-based training",
    "wandb": "Weights & Biases",
    "speed": "Speed of the training",
    "evaluation": "Watching and evaluating",
    "dummy": "Speed test (--algo=DUMMY_SAMPLER)",
}
_SUMMARIES = {
    Command.TRAIN: "Trains a policy with asynchronous PPO.",
    Command.ENJOY: "Watches or evaluates a trained policy.",
    Command.RUN_ALGORITHM: "Runs an algorithm: the trainer, or the DUMMY_SAMPLER that steps environments.",
}
_ESSENTIAL = {
    Command.TRAIN: "--env=ENV",
    Command.ENJOY: "--experiment=NAME",
    Command.RUN_ALGORITHM: "--algo=ALGO --env=ENV",
}
_FINDING = ("algo", "env", "experiment", "experiments_root", "train_dir")
_RUN_FLAGS: Mapping[Command, tuple[str, ...]] = {
    Command.ENJOY: (*_FINDING[1:], "device", "seed", "load_checkpoint_kind"),
    Command.RUN_ALGORITHM: (*_FINDING, "seed"),
}
"""Of the section about training runs, what other commands use."""
_FLAG_COLUMN = 2
_HELP_COLUMN = 6
_MAX_WIDTH = 100


def help_text(command: Command, env: str | None, *, width: int | None = None) -> str:
    """The whole help. `env` decides which family's flags and defaults it shows; without one, all families'
    flags are left out and the text says how to see them."""
    columns = min(width or shutil.get_terminal_size().columns, _MAX_WIDTH)
    family = family_of(env)
    defaults = default_values(env)
    lines = [
        f"usage: python -m {command.value} {_ESSENTIAL[command]} [--flag=value ...]",
        "",
        _SUMMARIES[command],
    ]
    lines += ["", *_wrap(_about_families(env, family), columns, indent=0)]
    for section in COMMAND_SECTIONS[command]:
        if section in FAMILY_SECTIONS and (family is None or not understands(family, section)):
            continue
        lines += ["", f"{TITLES[section]}:"]
        for spec in all_flags():
            if spec.section == section and _is_shown(spec, command):
                lines += _flag_lines(spec, format_value(defaults[spec.key]), columns)
    return "\n".join(lines) + "\n"


def _is_shown(spec: FlagSpec, command: Command) -> bool:
    return spec.section != "run" or spec.name in _RUN_FLAGS.get(command, (spec.name,))


def _about_families(env: str | None, family: EnvFamily | None) -> str:
    if family is None:
        return (
            "Flags and defaults depend on the environment: add --env=<name> to --help to see those of "
            "doom_*, dmlab_*, atari_* and mujoco_* environments, of gymnasium's, or of your own "
            "(package.module:make_env)."
        )
    return f"Flags and defaults for --env={env} (family: {family.value})."


def _flag_lines(spec: FlagSpec, default: str, columns: int) -> Iterator[str]:
    yield " " * _FLAG_COLUMN + f"--{spec.name} {_placeholder(spec)}"
    shown = spec.info.default_text or default or "none"
    choices = f" [{', '.join(spec.choices)}]" if spec.choices else ""
    text = f"{spec.info.help}{choices} (default: {shown})"
    if spec.info.aliases:
        text += f" [also {', '.join('--' + alias for alias in spec.info.aliases)}]"
    yield from _wrap(text, columns, indent=_HELP_COLUMN)


def _placeholder(spec: FlagSpec) -> str:
    if spec.choices:
        return "CHOICE"
    text = {"bool": "True|False", "int": "N", "float": "X", "str": "TEXT"}[spec.kind]
    return f"[{text} ...]" if spec.is_list else text


def _wrap(text: str, columns: int, *, indent: int) -> list[str]:
    pad = " " * indent
    return textwrap.wrap(
        text,
        columns,
        initial_indent=pad,
        subsequent_indent=pad,
        break_long_words=False,
        break_on_hyphens=False,
    )
