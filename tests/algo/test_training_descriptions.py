"""The command lines of the run descriptions are understood by the trainer."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from sf_algo.config.resolve import parse_args

FOLDER = Path(__file__).parents[2] / "run_descriptions"
DESCRIPTIONS = sorted(path.name for path in FOLDER.glob("*.py") if "sf_algo.train_appo" in path.read_text())
_COMMAND = re.compile(r'((?:"[^"\n]*"\s*)*"python -m sf_algo\.train_appo [^"\n]*"(?:\s*"[^"\n]*")*)')


def commands(name: str) -> list[str]:
    """The commands in the text of a description: adjacent string literals are one command."""
    text = (FOLDER / name).read_text()
    return ["".join(re.findall(r'"([^"\n]*)"', found)) for found in _COMMAND.findall(text)]


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_commands_parse(name: str) -> None:
    found = commands(name)
    assert found, f"{name} holds no command"
    for command in found:
        words = shlex.split(command)
        assert words[:3] == ["python", "-m", "sf_algo.train_appo"]
        env = [] if any(word.startswith("--env=") for word in words) else ["--env=doom_my_way_home"]
        invocation = parse_args([*words[3:], *env, "--seed=1111"])
        assert invocation.notes == ()
