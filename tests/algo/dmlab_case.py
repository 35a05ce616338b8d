"""The double of DeepMind Lab for tests: in this process, and for commands that tests start."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sf_algo.config import DmlabConfig, EnvConfig
from sf_algo.envs.dmlab.make import make_dmlab
from sf_algo.envs.spec import Env, EnvPlacement
from tests.algo.fake_dmlab import deepmind_lab

FAKE = Path(__file__).parent / "fake_dmlab"
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """`import deepmind_lab` finds the double; temporary folders are made in one of the test's."""
    monkeypatch.setitem(sys.modules, "deepmind_lab", deepmind_lab)
    (tmp_path / "temp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temp"))
    return deepmind_lab


def command_environment(**more: str) -> dict[str, str]:
    """For a command that is to find the double."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(FAKE), str(ROOT)]), "OMP_NUM_THREADS": "1", **more}


@contextmanager
def lab(
    name: str,
    cache: Path | None = None,
    placement: EnvPlacement | None = None,
    experiment: Path | None = None,
    **flags: Any,
) -> Iterator[Env]:
    """An environment that is closed at the end; without a cache it uses none."""
    flags = {"dmlab30_dataset": "dummy", "dmlab_use_level_cache": cache is not None, **flags}
    if cache is not None:
        flags["dmlab_level_cache_path"] = str(cache)
    env = make_dmlab(name, EnvConfig(), DmlabConfig(**flags), placement or EnvPlacement(), experiment=experiment)
    try:
        yield env
    finally:
        env.close()


def play(
    env: Env, seed: int | None, action: int = 0, steps: int = 10_000
) -> tuple[list[Any], Mapping[str, Any] | None]:
    """One episode or its beginning with always the same action: what was seen and got, and the statistics."""
    rows = env.spec.empty_rows()
    env.reset(rows, seed=seed)
    seen: list[Any] = [_copied(rows[0])]
    actions = np.full((1, 1), action, np.float32)
    for _ in range(steps):
        result = env.step(actions, rows)
        seen.append((_copied(rows[0]), float(result.rewards[0]), bool(result.terminated[0]), bool(result.truncated[0])))
        if result.episode is not None:
            return seen, result.episode
    return seen, None


def _copied(row: Mapping[str, NDArray[Any]]) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in row.items()}
