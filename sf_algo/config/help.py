"""The text of ``--help``: grouped by section, for one command and one family of environments."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

from sf_algo.config.env_family import FAMILY_SECTIONS, EnvFamily, understands
from sf_algo.config.flags import ENV_ARGS, FlagSpec
from sf_algo.config.program import NO_PROGRAM, Program, default_values, flag_set, program_family
from sf_algo.config.resolve import COMMAND_SECTIONS, Command
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
    "league": "League",
    "dummy": "Speed test (--algo=DUMMY_SAMPLER)",
    "accepted": "Accepted for old command lines",
}
_SUMMARIES = {
    Command.TRAIN: "Trains a policy with asynchronous PPO.",
    Command.ENJOY: "Watches or evaluates a trained policy, or lets several play against each other.",
    Command.LEAGUE: "Lets all checkpoints of an experiment play against each other and rates them.",
    Command.RUN_ALGORITHM: "Runs an algorithm: the trainer, or the DUMMY_SAMPLER that steps environments.",
}
_ESSENTIAL = {
    Command.TRAIN: "--env=ENV",
    Command.ENJOY: "--experiment=NAME",
    Command.LEAGUE: "--experiment=NAME",
    Command.RUN_ALGORITHM: "--algo=ALGO --env=ENV",
}
_FINDING = ("algo", "env", "experiment", "experiments_root", "train_dir")
_RUN_FLAGS: Mapping[Command, tuple[str, ...]] = {
    Command.ENJOY: (*_FINDING[1:], "device", "seed", "load_checkpoint_kind"),
    Command.LEAGUE: (*_FINDING[1:], "seed"),
    Command.RUN_ALGORITHM: (*_FINDING, "seed"),
}
"""Of the section about training runs, what other commands use."""
_FLAG_COLUMN = 2
_HELP_COLUMN = 6
_MAX_WIDTH = 100


def help_text(command: Command, env: str | None, *, program: Program = NO_PROGRAM, width: int | None = None) -> str:
    """The whole help. `env` decides which family's flags and defaults it shows, and which parameters of the
    environment's own maker; without one, all families' flags are left out and the text says how to see them.

    Raises:
        SfAlgoError: the environment or the program cannot be asked for its flags.
    """
    columns = min(width or shutil.get_terminal_size().columns, _MAX_WIDTH)
    family = program_family(program, env)
    flags = flag_set(program, env, parameters=True)
    defaults = default_values(program, env, flags)
    lines = [
        f"usage: python {_command(command, program, env)} {_ESSENTIAL[command]} [--flag=value ...]",
        "",
        _SUMMARIES[command],
    ]
    lines += ["", *_wrap(_about_families(env, family), columns, indent=0)]
    titles = {**TITLES, **{name: _own_title(name, kind) for name, kind in program.sections.items()}}
    titles[ENV_ARGS] = f"Parameters of {env}"
    for section in (ENV_ARGS, *program.sections, *COMMAND_SECTIONS[command]):
        if section in FAMILY_SECTIONS and (family is None or not understands(family, section)):
            continue
        shown = [spec for spec in flags.of_section(section) if _is_shown(spec, command)]
        if section == ENV_ARGS and flags.open_env_args:
            shown_anyway = ["", *_wrap(f"{env} takes any parameter as --env.KEY=VALUE.", columns, indent=0)]
            lines += shown_anyway if not shown else []
        lines += ["", f"{titles[section]}:"] if shown else []
        for spec in shown:
            lines += _flag_lines(spec, format_value(defaults[spec.key]), columns)
    return "\n".join(lines) + "\n"


def _command(command: Command, program: Program, env: str | None) -> str:
    if program.path is not None and not program.path.startswith("__main__:"):
        who = f"-m {program.path.partition(':')[0]}"
    elif program.path is not None or program.sections or program.has_env(env):
        who = Path(sys.argv[0]).name  # a script that is run itself
    else:
        return f"-m {command.value}"
    words = {Command.TRAIN: "train", Command.ENJOY: "enjoy", Command.LEAGUE: "league", Command.RUN_ALGORITHM: "dummy"}
    return f"{who} {words[command]}"


def _own_title(section: str, kind: type) -> str:
    """The first line of the dataclass's docstring, if somebody wrote one."""
    text = (kind.__doc__ or "").strip().split("\n")[0].rstrip(".")
    return text if text and not text.startswith(f"{kind.__name__}(") else section


def _is_shown(spec: FlagSpec, command: Command) -> bool:
    if spec.section == "evaluation" and command is Command.LEAGUE:
        return spec.name in ("eval_deterministic", "continuous_actions_sample")
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
    yield " " * _FLAG_COLUMN + f"--{spec.spellings[0]} {_placeholder(spec)}"
    shown = spec.info.default_text or default or "none"
    choices = f" [{', '.join(spec.choices)}]" if spec.choices else ""
    text = f"{spec.info.help}{choices} (default: {shown})".lstrip()
    if len(spec.spellings) > 1:
        text += f" [also {', '.join('--' + alias for alias in spec.spellings[1:])}]"
    yield from _wrap(text, columns, indent=_HELP_COLUMN)


def _placeholder(spec: FlagSpec) -> str:
    if spec.choices:
        return "CHOICE"
    text = {"bool": "True|False", "int": "N", "float": "X", "str": "TEXT", "any": "VALUE"}[spec.kind]
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
