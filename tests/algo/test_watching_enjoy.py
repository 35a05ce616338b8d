"""Watching and evaluating trained policies."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sf_algo import enjoy_appo, train_appo
from sf_algo.watching.evaluation import EpisodeResult, summarize, table


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an experiment that knows some CartPole, and a little Pendulum beside it."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("train_dir")
    common = [f"--train_dir={folder}", "--seed=1", "--serial_mode=True", "--hidden_size=32"]
    cartpole = ["--env=CartPole-v1", "--experiment=cartpole", "--train_for_env_steps=9000"]
    pendulum = ["--env=Pendulum-v1", "--experiment=pendulum", "--train_for_env_steps=2000"]
    for flags in (cartpole, pendulum):
        assert train_appo.main([*common, *flags]) == 0
    return folder


def enjoy(folder: Path, experiment: str, *flags: str) -> dict[str, Any]:
    env = {"cartpole": "CartPole-v1", "pendulum": "Pendulum-v1"}[experiment]
    words = [f"--train_dir={folder}", f"--experiment={experiment}", f"--env={env}", "--no_render", *flags]
    assert enjoy_appo.main(words) == 0
    document: dict[str, Any] = json.loads((folder / experiment / "evaluation_p0.json").read_text())
    return document


def test_the_same_seed_plays_the_same_episodes(trained: Path) -> None:
    first = enjoy(trained, "cartpole", "--max_num_episodes=3", "--seed=5")
    again = enjoy(trained, "cartpole", "--max_num_episodes=3", "--seed=5")
    other = enjoy(trained, "cartpole", "--max_num_episodes=3", "--seed=6")
    assert first["episodes"] == again["episodes"]
    assert first["episodes"] != other["episodes"]
    assert len(first["episodes"]) == 3
    assert first["metrics"]["reward"]["mean"] > 40
    assert first["frames"] == sum(episode["frames"] for episode in first["episodes"])


def test_a_deterministic_policy_is_at_least_as_good(trained: Path) -> None:
    flags = ("--max_num_episodes=5", "--seed=5")
    sampled = enjoy(trained, "cartpole", *flags)
    greedy = enjoy(trained, "cartpole", *flags, "--eval_deterministic=True")
    assert greedy["deterministic"]
    assert greedy["metrics"]["reward"]["mean"] >= 0.8 * sampled["metrics"]["reward"]["mean"]


def test_means_of_continuous_actions_depend_on_no_generator(trained: Path) -> None:
    flags = ("--max_num_episodes=1", "--seed=5")
    sampled = enjoy(trained, "pendulum", *flags)
    means = enjoy(trained, "pendulum", *flags, "--continuous_actions_sample=False")
    greedy = enjoy(trained, "pendulum", *flags, "--eval_deterministic=True")
    assert means["episodes"] == greedy["episodes"] != sampled["episodes"]


def test_a_limit_of_frames_cuts_an_episode_short(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = enjoy(trained, "pendulum", "--max_num_frames=50")
    assert document["frames"] == 50
    assert document["episodes"] == []
    assert "no episode ended within 50 frames" in capsys.readouterr().out


def test_the_table_and_the_files_are_told(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    enjoy(trained, "cartpole", "--max_num_episodes=2", "--load_checkpoint_kind=latest")
    out = capsys.readouterr().out
    assert "policy 0 from" in out
    assert "episode 1: reward" in out
    assert "mean" in out
    assert "evaluation_p0.json" in out


def test_no_checkpoint_is_one_clear_line(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"--train_dir={trained}", "--experiment=cartpole", "--env=CartPole-v1", "--no_render"]
    assert enjoy_appo.main([*words, "--load_checkpoint_kind=best"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("error: no best checkpoint in")


def test_a_video_without_the_package_names_the_extra(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "imageio", None)
    words = [f"--train_dir={trained}", "--experiment=cartpole", "--env=CartPole-v1", "--save_video"]
    assert enjoy_appo.main(words) == 2
    assert "pip install 'sf-runner[video]'" in capsys.readouterr().err


class _FakeWriter:
    def __init__(self) -> None:
        self.frames: list[np.ndarray[Any, Any]] = []
        self.closed = False

    def append_data(self, frame: np.ndarray[Any, Any]) -> None:
        self.frames.append(frame)

    def close(self) -> None:
        self.closed = True


def test_a_video_gets_one_even_sized_frame_for_every_step(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygame", reason="gymnasium draws classic control with pygame")
    writer = _FakeWriter()
    calls: list[tuple[Path, float]] = []

    def get_writer(path: Path, *, fps: float, macro_block_size: int) -> _FakeWriter:
        calls.append((path, fps))
        return writer

    v2 = types.ModuleType("imageio.v2")
    v2.get_writer = get_writer  # type: ignore[attr-defined]
    package = types.ModuleType("imageio")
    package.v2 = v2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "imageio", package)
    monkeypatch.setitem(sys.modules, "imageio.v2", v2)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", types.ModuleType("imageio_ffmpeg"))
    document = enjoy(trained, "cartpole", "--save_video", "--max_num_episodes=1", "--fps=20", "--video_frames=10")
    assert calls == [(trained / "cartpole" / "replay.mp4", 20)]
    assert writer.closed
    assert len(writer.frames) == min(10, document["frames"] + 1)
    assert all(side % 2 == 0 for frame in writer.frames for side in frame.shape[:2])


def test_summaries_over_episodes() -> None:
    results = [
        EpisodeResult(episode=k, agent=0, reward=float(k), num_frames=10 * k, stats={"kills": 2.0 * k})
        for k in range(1, 4)
    ]
    summary = summarize(results)
    assert summary["reward"] == {
        "mean": 2.0,
        "std": pytest.approx((2 / 3) ** 0.5),
        "min": 1.0,
        "median": 2.0,
        "max": 3.0,
    }
    assert summary["kills"]["max"] == 6.0
    assert summary["true_reward"] == summary["reward"]
    assert [line.split()[0] for line in table(summary).splitlines()] == [
        "mean",
        "reward",
        "len",
        "true_reward",
        "kills",
    ]
