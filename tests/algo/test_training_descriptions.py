"""The command lines of the run descriptions are understood by the trainer."""

from __future__ import annotations

import importlib
import shlex
from pathlib import Path

import pytest

from sf_algo.config.resolve import parse_args
from sf_runner import RunDescription

FOLDER = Path(__file__).parents[2] / "run_descriptions"
DESCRIPTIONS = sorted(path.stem for path in FOLDER.glob("*.py") if "sf_algo.train_appo" in path.read_text())


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_commands_parse(name: str) -> None:
    """Every combination; of those that differ in nothing but the seed, the first one."""
    description = importlib.import_module(f"run_descriptions.{name}").RUN_DESCRIPTION
    assert isinstance(description, RunDescription)
    seen: set[tuple[str, ...]] = set()
    for expansion in description.expand():
        words = expansion.argv
        if "sf_algo.train_appo" not in words:
            continue  # a job that is no training
        rest = tuple(word for word in words[3:] if not word.startswith(("--seed=", "--experiment=")))
        if rest not in seen:
            seen.add(rest)
            assert words[:3] == ("python", "-m", "sf_algo.train_appo"), words
            assert parse_args(words[3:]).notes == (), shlex.join(words)
    assert seen
