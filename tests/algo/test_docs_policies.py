"""docs/policies.md is true: its commands run, its flags exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sf_algo import export, trained_policies
from sf_algo.gallery.card import Card
from sf_algo.gallery.shelf import PACKAGED

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "policies.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if line.startswith("python ")
]


def test_flags_that_the_text_names_exist() -> None:
    known = {flag for action in export._parser()._actions for flag in action.option_strings}
    section = PAGE[PAGE.index("## Export") :]
    assert set(re.findall(r"--[a-z_]+", section)) - {"--episodes"} <= known


def test_the_table_has_every_policy_of_the_package() -> None:
    for folder in PACKAGED.iterdir():
        card = Card.load(folder)
        assert f"| `{card.name}` | {card.score} | {card.env_steps:,} |" in PAGE


@pytest.mark.slow
def test_the_commands_of_trained_policies_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SF_ALGO_POLICIES", str(tmp_path / "own"))
    monkeypatch.delenv("DISPLAY", raising=False)
    words = ["-m", "sf_algo.train_appo", "--env=CartPole-v1", "--experiment=first", "--train_for_env_steps=3000"]
    assert subprocess.run([sys.executable, *words], check=False).returncode == 0
    mine = [shlex.split(line)[3:] for line in COMMANDS if "sf_algo.trained_policies" in line]
    assert len(mine) == 5
    for command in mine:
        assert trained_policies.main(command) == 0
    assert (tmp_path / "doom_health_gathering.gif").stat().st_size > 10_000
    assert (tmp_path / "mine.gif").exists()


@pytest.mark.slow
def test_the_commands_of_exporting_run_one_after_the_other(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="needs the packages of the extra onnx")
    words = ["-m", "sf_algo.train_appo", "--env=CartPole-v1", "--experiment=first", "--train_for_env_steps=3000"]
    commands = [words, *(shlex.split(line)[1:] for line in COMMANDS if "first" in line and "policies" not in line)]
    assert len(commands) == 3
    for command in commands:
        command[0] = str(ROOT / command[0]) if command[0].endswith(".py") else command[0]
        done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
