"""MuJoCo tasks: all can be made, without a word and without a file; actions are clipped."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest

pytest.importorskip("mujoco", reason='MuJoCo needs the extra "mujoco"')
pytest.importorskip("imageio", reason='MuJoCo needs the extra "mujoco"')

from sf_algo.config import EnvConfig
from sf_algo.config.resolve import parse_args
from sf_algo.envs.mujoco import MUJOCO_IDS, make_mujoco
from sf_algo.envs.spec import PLAIN_OBS


@pytest.mark.parametrize("name", MUJOCO_IDS)
def test_making_one_says_nothing_and_leaves_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    env = make_mujoco(name, EnvConfig())
    row = env.spec.empty_rows()[0]
    env.reset([row], seed=1)
    assert np.abs(row[PLAIN_OBS]).sum() > 0
    env.close()
    out, err = capfd.readouterr()
    assert out + err == ""
    assert list(tmp_path.iterdir()) == []


def test_actions_beyond_the_bounds_are_clipped_to_them() -> None:
    ours, theirs = make_mujoco("mujoco_hopper", EnvConfig()), gymnasium.make("Hopper-v5")
    row = ours.spec.empty_rows()[0]
    ours.reset([row], seed=4)
    theirs.reset(seed=4)
    for action in ([7.0, -3.0, 0.25], [-1.5, 1.0, 2.0]):
        expected, reward, *_ = theirs.step(np.clip(np.array(action, np.float32), -1, 1))
        result = ours.step(np.array([action], np.float32), [row])
        np.testing.assert_allclose(row[PLAIN_OBS], expected, rtol=1e-6)
        assert result.rewards[0] == pytest.approx(float(reward), rel=1e-5)
    ours.close()
    theirs.close()


def test_observations_and_returns_are_normalized_by_default() -> None:
    config = parse_args(["--env=mujoco_hopper"]).config
    assert config.rl.normalize_input
    assert config.rl.normalize_returns
