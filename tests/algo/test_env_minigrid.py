"""Grid worlds: small images, texts, and choices beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from sf_algo.train_appo import main
from tests.algo.test_env_faults import MissionSpace

FLAGS = ("--experiment=e", "--use_rnn=False", "--hidden_size=16", "--serial_mode=True", "--seed=1")
pytestmark = pytest.mark.usefixtures("one_torch_thread")

SMALL = ("--num_envs_per_worker=4", "--rollout=8", "--batch_size=32", "--learner_main_loop_num_cores=1")


class Grid(gymnasium.Env[Any, Any]):
    """What a grid world looks like; ends after 12 steps."""

    observation_space = spaces.Dict(
        {"image": spaces.Box(0, 255, (7, 7, 3), np.uint8), "direction": spaces.Discrete(4), "mission": MissionSpace()}
    )
    action_space = spaces.Discrete(7)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self.observation_space.sample(), float(action == 2), self.steps == 12, False, {}


def train(folder: Path, env: str, *more: str) -> dict[str, Any]:
    assert main([f"--env={env}", f"--train_dir={folder}", *FLAGS, *more]) == 0
    results: dict[str, Any] = json.loads((folder / "e" / "results.json").read_text())
    return results


def test_what_looks_like_a_grid_world_trains(tmp_path: Path) -> None:
    results = train(tmp_path, "tests.algo.test_env_minigrid:Grid", *SMALL, "--train_for_env_steps=640")
    assert results["metrics"]["len"] == 12


def test_minigrid_trains(tmp_path: Path) -> None:
    """The command of docs/trainer.md, cut short."""
    pytest.importorskip("minigrid")
    results = train(tmp_path, "minigrid:MiniGrid-Empty-5x5-v0", *SMALL, "--train_for_env_steps=640")
    assert results["env_steps"] >= 640


@pytest.mark.slow
def test_minigrid_is_learned(tmp_path: Path) -> None:
    pytest.importorskip("minigrid")
    results = train(tmp_path, "minigrid:MiniGrid-Empty-5x5-v0", "--hidden_size=128", "--train_for_env_steps=80000")
    assert results["metrics"]["reward"] > 0.8
