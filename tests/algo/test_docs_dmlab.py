"""The page about DeepMind Lab is true: its commands run (against the double, with fewer frames), its names exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sf_algo.config import Command, parse_args
from sf_algo.config.flags import flags_by_spelling
from sf_algo.envs.dmlab.levels import DMLAB_30, NAMED
from tests.algo.dmlab_case import ROOT, command_environment

PAGE = (ROOT / "docs" / "dmlab.md").read_text()
MODULES = {command.value: command for command in Command}
OTHERS = {"episodes", "for_frames", "processes", "training_levels"}
SMALL = (
    "--num_workers=2 --num_envs_per_worker=2 --rollout=8 --recurrence=8 --batch_size=32 --hidden_size=16 --device=cpu"
)
FEWER = {
    "train_appo": f"--train_for_env_steps=2000 --decorrelate_experience_max_seconds=0 {SMALL}",
    "enjoy_appo": "--experiment=good_objects --env=dmlab_benchmark --max_num_episodes=2",
    "evaluate": "--experiment=good_objects --episodes=1 --processes=1 --env=dmlab_watermaze --dmlab30_dataset=dummy",
    "populate_cache": "--env=dmlab_sparse --for_frames=9000 --processes=1",
    "run_algorithm": "--num_workers=2 --sample_env_frames=2000",
}


def commands() -> list[str]:
    blocks = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


@pytest.mark.parametrize("line", [line for line in commands() if MODULES.keys() & set(shlex.split(line))])
def test_commands_parse(line: str) -> None:
    _, _, module, *argv = shlex.split(line)
    assert parse_args(argv, MODULES[module]).notes == ()


@pytest.mark.slow
def test_commands_run(tmp_path: Path) -> None:
    environment = command_environment(TMPDIR=str(tmp_path), HOME=str(tmp_path), FAKE_DMLAB_FRAMES="40")
    assert len(commands()) == 5
    for line in commands():
        python, *words = shlex.split(line)
        assert python == "python"
        fewer = shlex.split(FEWER[words[1].rpartition(".")[2]])
        ended = subprocess.run(
            [sys.executable, *words, *fewer], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert ended.returncode == 0, line + ended.stdout + ended.stderr
    assert (tmp_path / ".dmlab_cache" / "maps").is_dir()


def test_flags_and_names_of_the_text_exist() -> None:
    named = set(re.findall(r"--([a-z_0-9]+)", PAGE)) - OTHERS
    assert named <= set(flags_by_spelling())
    assert set(re.findall(r"`(dmlab_\w+)` \|", PAGE)) == set(NAMED)
    levels = {name for level in DMLAB_30 for name in (level.name, level.test_name)}
    assert set(re.findall(r"\b(?:rooms|explore|psychlab|lasertag)_\w+", PAGE)) <= levels
