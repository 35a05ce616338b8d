"""The public list of flags is frozen, the help explains each one, and commands end as documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import sf_algo
from sf_algo.config import Command, Invocation, run_command
from sf_algo.config.flags import all_flags, flags_by_spelling
from sf_algo.config.help import help_text
from sf_algo.config.resolve import COMMAND_SECTIONS
from sf_algo.config.values import format_value, parse_value
from sf_algo.errors import WorkerError

GOLDEN = Path(__file__).parent.parent / "golden" / "flags.txt"
"""Regenerate on purpose only: `python -m tests.algo.test_config_flags`."""


def flag_list() -> str:
    """One line per flag: name, section, type and synonyms. Defaults may depend on the machine: not listed."""
    lines = []
    for spec in all_flags():
        kind = "|".join(spec.choices) or spec.kind
        kind += "..." if spec.is_list else ""
        kind += " or None" if spec.optional else ""
        also = f" (also {', '.join(spec.info.aliases)})" if spec.info.aliases else ""
        lines.append(f"{spec.name}: {spec.section}, {kind}{also}")
    return "\n".join(sorted(lines)) + "\n"


def test_the_flag_list_is_frozen() -> None:
    """A flag that disappears or changes breaks users' commands and stored configurations. A new one needs an
    entry in `sf_algo.config.store.ADDED_SINCE` once a version with another list has been released."""
    assert flag_list() == GOLDEN.read_text()


def test_a_name_means_one_thing() -> None:
    for spelling, specs in flags_by_spelling().items():
        kinds = {(spec.kind, spec.is_list, spec.optional, spec.choices) for spec in specs}
        assert len(kinds) == 1, spelling
        assert len({spec.name for spec in specs}) == 1, spelling
        assert len(specs) == 1 or {spec.section for spec in specs} == {"doom", "dmlab"}, spelling


def test_every_flag_is_followed_refused_or_told_to_do_nothing() -> None:
    """Outside the configuration some code reads each section's field, or the flag says that it is idle."""
    package = Path(sf_algo.__file__).parent
    code = "\n".join(p.read_text() for p in package.rglob("*.py") if "config" not in p.parts)
    read = set(re.findall(r"\.(\w+)\b", code))
    by_the_configuration = {"algo", "optimizer", "experiments_root", "train_dir", "train_for_env_steps", "recurrence"}
    by_the_configuration |= {"self_play_opponents"}
    for spec in all_flags():
        if spec.name in by_the_configuration:
            continue
        assert (spec.name in read) != bool(spec.info.idle), spec.name


def test_every_default_is_a_value_of_its_flag() -> None:
    for spec in all_flags():
        text = format_value(spec.default)
        assert parse_value(spec, text.split() if spec.is_list else [text]) == spec.default, spec.name


@pytest.mark.parametrize("command", list(Command))
@pytest.mark.parametrize("env", [None, "doom_basic", "dmlab_30", "CartPole-v1", "my.envs:make"])
def test_help_is_readable_at_80_columns(command: Command, env: str | None) -> None:
    text = help_text(command, env, width=80)
    assert max(len(line) for line in text.splitlines()) <= 80


@pytest.mark.parametrize(
    ("env", "shown", "hidden"),
    [
        ("doom_basic", "--wide_aspect_ratio", "--dmlab_renderer"),
        ("dmlab_30", "--dmlab_renderer", "--wide_aspect_ratio"),
        ("CartPole-v1", "--env_framestack", "--wide_aspect_ratio"),
        (None, "--env_framestack", "--wide_aspect_ratio"),
    ],
)
def test_help_is_about_the_family(env: str | None, shown: str, hidden: str) -> None:
    text = help_text(Command.TRAIN, env, width=80)
    assert shown in text
    assert hidden not in text


def test_help_lists_every_flag_of_the_command_with_the_family_default() -> None:
    text = help_text(Command.TRAIN, "doom_basic", width=100)
    sections = set(COMMAND_SECTIONS[Command.TRAIN]) - {"dmlab"}
    for spec in all_flags():
        if spec.section in sections:
            assert f"  --{spec.name} " in text
    assert "(default: 255.0)" in text
    assert "(default: 1.0)" in help_text(Command.TRAIN, "CartPole-v1", width=100)


def run(*argv: str) -> int:
    def body(invocation: Invocation) -> int:
        print(f"training {invocation.config.run.env}")
        return 0

    return run_command(Command.TRAIN, body, argv)


def test_help_goes_to_stdout_even_beside_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--env=doom_basic", "--gamm=1", "--help") == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: python -m sf_algo.train_appo --env=ENV")
    assert "VizDoom environments:" in out
    assert err == ""


def test_a_fault_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--env=CartPole-v1", "--gamm=1", "--seed=x") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == ("error: unknown flag --gamm; did you mean --gamma?\nerror: --seed=x: must be a whole number\n")


def test_notes_come_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--env=CartPole-v1", f"--train_dir={tmp_path}", "--fps=3") == 0
    out, err = capsys.readouterr()
    assert out == "training CartPole-v1\n"
    assert err == "note: no effect in this command: --fps\n"


def test_a_failure_at_work_is_one_line_and_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def body(invocation: Invocation) -> int:
        raise WorkerError("worker 3 died\nTraceback:\n  of something\n")

    assert run_command(Command.TRAIN, body, ["--env=CartPole-v1", f"--train_dir={tmp_path}"]) == 1
    assert capsys.readouterr().err == "Traceback:\n  of something\nerror: worker 3 died\n"


if __name__ == "__main__":
    GOLDEN.write_text(flag_list())
