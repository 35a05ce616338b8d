"""The page about populations is true: its commands are run, the flags and files that it names exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sf_algo.config.extras import PbtConfig
from sf_algo.config.flags import flags_by_spelling, specs_of

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "population.md").read_text()
SHORT = {"population": "--train_for_env_steps=1500", "spread": "--train_for_env_steps=1500"}


def commands() -> list[str]:
    found = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [line for block in found for line in block.splitlines() if line.strip()]


def run(line: str, folder: Path, *more: str) -> str:
    words = [sys.executable, *shlex.split(line)[1:], *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.parametrize("name", SHORT)
def test_populations_train(name: str, tmp_path: Path) -> None:
    (line,) = [line for line in commands() if f"--experiment={name}" in line]
    run(line, tmp_path, SHORT[name], "--pbt_start_mutation=100", "--pbt_period_env_steps=100")
    assert (tmp_path / f"train_dir/{name}/results.json").is_file()
    assert (tmp_path / f"train_dir/{name}/pbt.jsonl").is_file() == (name == "population")


def test_policies_meet_and_are_rated(tmp_path: Path) -> None:
    pytest.importorskip("pettingzoo")
    train, enjoy, league = [line for line in commands() if "--experiment=rps" in line]
    run(train, tmp_path, "--train_for_env_steps=1000", "--hidden_size=16", "--batch_size=256")
    assert "policy 0 against policy 1: " in run(enjoy, tmp_path)
    assert "95 % interval" in run(league, tmp_path, "--league_games=3")
    assert (tmp_path / "train_dir/rps/league.json").is_file()


def test_every_command_of_the_page_is_among_these() -> None:
    assert len(commands()) == len(SHORT) + 3


def test_flags_that_the_text_names_exist_and_none_is_left_out() -> None:
    text = re.sub(r"^python -m sf_runner.*$", "", PAGE, flags=re.MULTILINE)  # the runner's have other flags
    named = set(re.findall(r"--([a-z_0-9]+)", text))
    assert named <= set(flags_by_spelling())
    ours = {spec.name for spec in specs_of("pbt", PbtConfig)}
    assert ours <= named


def test_links_lead_somewhere() -> None:
    headings = re.findall(r"^##+ (.*)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]*)\)", PAGE)) <= anchors
    files = re.findall(r"\]\(((?!#|http)[^)]*)\)", PAGE)
    assert files
    assert all((ROOT / "docs" / file).is_file() for file in files)
