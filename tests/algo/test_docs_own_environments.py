"""The page about programs of one's own is true: its program is run, its commands parse, its names exist."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sf_algo.config.flags import flags_by_spelling
from tests.algo.test_summaries import tags

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "own_environments.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the page's files."""
    for text in blocks("python"):
        named = re.match(r"# ([\w/]+\.py)\n", text)
        if named:
            (tmp_path / named[1]).parent.mkdir(exist_ok=True)
            (tmp_path / named[1]).write_text(text)
    return tmp_path


def run(line: str, folder: Path, *more: str) -> str:
    """Runs a command of the page in `folder`; returns what it printed."""
    words = [sys.executable, *shlex.split(line)[1:], *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def commands() -> list[str]:
    return [line for block in blocks("bash") for line in block.splitlines() if line.strip()]


def test_the_program_trains_is_watched_and_measured(folder: Path) -> None:
    train, enjoy, dummy, help_ = commands()[:4]
    run(train, folder, "--train_for_env_steps=3000")
    document = json.loads((folder / "train_dir" / "long" / "cfg.json").read_text())
    assert document["app"] == "corridors.train:app"
    assert document["config"]["corridors"] == {
        "length": 4,
        "step_cost": 0.02,
        "anneal_steps": 10000,
    }
    assert document["config"]["env_args"] == {"doors": 1}
    assert document["config"]["model"]["encoder_custom"] == "corridors.networks:make_encoder"
    assert document["config"]["rl"]["extra_losses"] == ["corridors.networks:forwards"]
    assert "corridors/shortest_detour" in tags(folder / "train_dir" / "long" / ".summary" / "0")
    assert "10 episodes" in run(enjoy, folder)
    (use,) = (block for block in blocks("python") if "load_policy(" in block)
    before, after = "import numpy as np\nobs = np.eye(9, dtype=np.float32)[0]\n", "print(action in (0, 1))"
    assert run("python -c", folder, before + use + after) == "True\n"
    assert "2 episodes" in run(
        "python -m sf_algo.enjoy_appo --experiment=long", folder, "--no_render", "--max_num_episodes=2"
    )
    assert "frames/s" in run(dummy, folder, "--sample_env_frames=2000")
    shown = run(help_, folder)
    assert "usage: python -m corridors.train train" in shown
    assert "The corridors:\n  --length N\n      cells of the shorter corridor (default: 6)" in shown
    assert "Parameters of long_corridor:\n  --doors N" in shown


def test_it_goes_on_with_what_was_stored(folder: Path) -> None:
    train = commands()[0]
    run(train, folder, "--train_for_env_steps=1000", "--serial_mode=True", "--num_workers=1")
    out = run("python -m sf_algo.train_appo --experiment=long --train_for_env_steps=2000", folder)
    assert "goes on from" in out


def test_flags_that_the_page_names_exist() -> None:
    named = set(re.findall(r"--([a-z_0-9]+)", PAGE)) - {"help", "length", "doors"}
    named |= set(re.findall(r"`(\w+_custom)`", PAGE))
    assert named <= set(flags_by_spelling())


def test_links_lead_somewhere() -> None:
    files = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", PAGE)
    assert files
    assert all((ROOT / "docs" / file).is_file() for file in files)
