"""Trained policies: made, listed, shown, played, checked, published and fetched."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sf_algo import trained_policies
from sf_algo.checkpoints import CheckpointStore
from sf_algo.enjoy_appo import main as enjoy
from sf_algo.errors import CheckpointError
from sf_algo.gallery.animation import Animation
from sf_algo.gallery.card import Card, Score
from sf_algo.gallery.hub import imported_names
from sf_algo.gallery.making import half_precision
from sf_algo.gallery.shelf import PACKAGED
from sf_algo.watching.load_policy import load_policy
from tests.algo.fake_hub import running_hub

SURE = statistics.NormalDist().inv_cdf(0.975)

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train_dir")
    words = ["-m", "sf_algo.train_appo", "--env=CartPole-v1", "--experiment=e", f"--train_dir={folder}", "--seed=1"]
    words += ["--train_for_env_steps=6000", "--hidden_size=16"]
    subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, check=True)
    return folder / "e"


@pytest.fixture(scope="module")
def made(experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained policy; tests that change it work on a copy."""
    shelf = tmp_path_factory.mktemp("policies")
    words = ["add", f"--experiment={experiment}", "--name=cart", f"--to={shelf}", "--episodes=20", "--about=Balances."]
    assert trained_policies.main(words) == 0
    return shelf / "cart"


@pytest.fixture
def own(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own folder, with the policy in it; no display."""
    shutil.copytree(made, tmp_path / "own" / "cart")
    monkeypatch.setenv("SF_ALGO_POLICIES", str(tmp_path / "own"))
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "own"


def test_the_score_is_that_of_the_small_weights(made: Path, experiment: Path) -> None:
    card = Card.load(made)
    assert (card.env, card.about, card.env_steps) == ("CartPole-v1", "Balances.", 6144)
    assert (card.score.episodes, card.score.metric, card.score.deterministic) == (20, "true_reward", False)
    flags = [f"--train_dir={made.parent}", "--experiment=cart", "--env=CartPole-v1", "--no_render", "--seed=0"]
    assert enjoy([*flags, "--max_num_episodes=20"]) == 0, "whatever takes an experiment takes a policy"
    found = json.loads((made / "evaluation_p0.json").read_text())
    values = [episode["true_reward"] for episode in found["episodes"]]
    assert card.score.mean == pytest.approx(statistics.fmean(values))
    half = SURE * statistics.stdev(values) / len(values) ** 0.5
    assert (card.score.low, card.score.high) == (
        pytest.approx(card.score.mean - half),
        pytest.approx(card.score.mean + half),
    )
    (made / "evaluation_p0.json").unlink()
    large, small = (sum(p.stat().st_size for p in f.rglob("*.pth")) for f in (experiment, made))
    assert small < large / 3
    assert str(experiment.parent) not in (made / "cfg.json").read_text()


def test_half_precision_leaves_the_normalizers_alone() -> None:
    weights = {
        "heads.0.weight": torch.randn(3, 4),
        "obs_normalizer.running.0.mean": torch.tensor([1e7], dtype=torch.float64),
        "obs_normalizer.running.0.mean32": torch.tensor([1e7]),
        "returns_normalizer.count": torch.tensor(1e9, dtype=torch.float64),
        "returns_normalizer.std32": torch.tensor(1e6),
    }
    small = half_precision(weights)
    assert small["heads.0.weight"].dtype == torch.float16
    assert all(torch.isfinite(tensor).all() for tensor in small.values())
    assert small["obs_normalizer.running.0.mean32"].item() == 1e7
    assert small["returns_normalizer.std32"].item() == 1e6


def test_a_policy_acts_in_python(made: Path) -> None:
    policy = load_policy(made, deterministic=True)
    action, _ = policy.act(np.array([0.0, 0.0, 0.2, 1.0], np.float32))
    assert action in (0, 1)
    assert next(policy.model.parameters()).dtype == torch.float32


def test_listed_and_shown(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trained_policies.main([]) == 0
    listed = capsys.readouterr().out
    assert "cart" in listed
    assert "6,144" in listed
    assert trained_policies.main(["show", "cart"]) == 0
    shown = capsys.readouterr().out
    assert "20 episodes, drawn actions, seed 0" in shown
    assert str(own / "cart" / "episode.gif") in shown


def test_played_into_a_gif_where_there_is_no_display(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trained_policies.main(["play", "cart"]) == 0
    told = capsys.readouterr().out
    assert "episode 0: " in told
    assert "no display: the episode is in cart.gif" in told
    with Image.open("cart.gif") as image:
        assert image.n_frames > 5  # type: ignore[attr-defined]
        assert image.width <= 320


def test_played_for_the_score_alone_as_the_card_says(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trained_policies.main(["play", "cart", "--no_picture", "--episodes=20"]) == 0
    told = capsys.readouterr().out
    card = Card.load(own / "cart")
    assert f"mean {card.score}" in told, "the same seed plays the same episodes"
    assert not Path("cart.gif").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["play", "crat"], "there is no trained policy 'crat'; did you mean cart?"),
        (["play", "cart", "--gif=a.mp4"], "--gif=a.mp4 must end in .gif"),
        (["dance"], "invalid choice: 'dance'"),
        (["play"], "required: NAME; see python -m sf_algo.trained_policies play --help"),
        (["add", "--experiment=nowhere", "--name=a b"], "--name=a b must consist of letters"),
    ],
)
def test_faults_are_one_line(own: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str) -> None:
    assert trained_policies.main(words) > 0
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert told in error


def test_other_weights_than_those_of_the_card_are_refused(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (weights,) = (own / "cart" / "checkpoint_p0").iterdir()
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert trained_policies.main(["play", "cart"]) == 1
    assert "is not what its card says" in capsys.readouterr().err


def test_weights_beside_those_of_the_card_are_refused(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (weights,) = (own / "cart" / "checkpoint_p0").iterdir()
    (weights.parent / "checkpoint_999999999_999999999.pth").write_bytes(weights.read_bytes())
    assert trained_policies.main(["play", "cart"]) == 1
    assert "holds checkpoint_999999999_999999999.pth, which the card does not know" in capsys.readouterr().err


def test_intervals() -> None:
    score = Score.of([1.0, 2.0, 3.0, 4.0], metric="m", seed=0, deterministic=True)
    assert score.mean == 2.5
    assert score.high - score.mean == pytest.approx(SURE * statistics.stdev([1, 2, 3, 4]) / 2)


def test_an_animation_shows_every_so_many_frames(tmp_path: Path) -> None:
    animation = Animation(frame_s=0.005, most=3)
    for value in range(40):
        animation.add(np.full((20, 30, 3), 6 * value + 1, np.uint8))
    assert len(animation) == 3
    animation.write(tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as image:
        assert image.info["duration"] == 20


# ---- the hub ------------------------------------------------------------------------------------------------------


def command(*words: str, home: Path, hub: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the hub's library reads its address when it is imported."""
    env = {
        **os.environ,
        "HF_ENDPOINT": hub,
        "HF_TOKEN": "hf_test",
        "HF_HOME": str(home / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "SF_ALGO_POLICIES": str(home / "own"),
        "no_proxy": "*",
    }
    run = [sys.executable, "-m", "sf_algo.trained_policies", *words]
    return subprocess.run(run, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=240)


def test_published_and_fetched(made: Path, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="needs the packages of the extra hub")
    with running_hub() as (hub, address):
        done = command("publish", str(made), "--repository=me/cart", home=tmp_path, hub=address)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{address}/me/cart\n"
        files = hub.files["me/cart"]
        assert {"card.json", "cfg.json", "episode.gif", "README.md"} <= set(files)
        assert "trained_policies fetch OWNER/cart" in files["README.md"].decode()
        done = command("fetch", "me/cart", "--name=theirs", home=tmp_path, hub=address)
        assert done.returncode == 0, done.stderr
        fetched = tmp_path / "own" / "theirs"
        assert sorted(p.name for p in fetched.iterdir()) == ["card.json", "cfg.json", "checkpoint_p0", "episode.gif"]
        assert Card.load(fetched).check(fetched).read_bytes() == Card.load(made).check(made).read_bytes()
        # Somebody exchanged the weights, or wants code of theirs to be imported.
        (weights,) = (path for path in files if path.endswith(".pth"))
        files[weights] += b"x"
        done = command("fetch", "me/cart", "--name=bad", home=tmp_path, hub=address)
        assert (done.returncode, "is not what its card says" in done.stderr) == (1, True)
        files[weights] = files[weights][:-1]
        config = json.loads(files["cfg.json"])
        config["config"]["model"]["encoder_custom"] = "os:system"
        files["cfg.json"] = json.dumps(config).encode()
        done = command("fetch", "me/cart", "--name=bad", home=tmp_path, hub=address)
        assert (done.returncode, "imports code by name (os:system)" in done.stderr) == (1, True)
        assert not (tmp_path / "own" / "bad").exists()
        done = command("fetch", "me/nothing", home=tmp_path, hub=address)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert done.stderr.startswith("error: cannot fetch me/nothing: ")


# ---- those of the package -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", sorted(PACKAGED.iterdir()), ids=lambda path: path.name)
def test_policies_of_the_package_are_sound(folder: Path) -> None:
    card = Card.load(folder)
    assert card.name == folder.name
    card.check(folder)
    assert card.score.episodes >= 100
    assert imported_names(folder / "cfg.json") == []
    with Image.open(folder / "episode.gif") as image:
        assert image.n_frames >= 3  # type: ignore[attr-defined]
    loaded = CheckpointStore(folder / "checkpoint_p0", keep=1).load_latest()
    assert loaded is not None
    assert set(loaded.checkpoint.learner) == {"model"}
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 1_500_000


def test_black_frames_are_left_out(tmp_path: Path) -> None:
    animation = Animation(frame_s=0.1)
    for value in (0, 200, 0):
        animation.add(np.full((20, 30, 3), value, np.uint8))
    assert len(animation) == 1


def test_a_folder_without_a_card_is_none(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no trained policy"):
        Card.load(tmp_path)


@pytest.mark.slow
@pytest.mark.doom
@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="needs Xvfb, a display without a screen")
def test_a_policy_is_played_in_a_window_where_there_is_a_display(tmp_path: Path) -> None:
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "640x480x24"], pass_fds=[write], stderr=subprocess.DEVNULL
    )
    try:
        display = os.read(read, 16).decode().strip()
        # Tests before this one may have drawn without a window, and told libraries so.
        surroundings = {name: value for name, value in os.environ.items() if name != "SDL_VIDEODRIVER"}
        played = subprocess.run(
            [sys.executable, "-m", "sf_algo.trained_policies", "play", "doom_basic", "--episodes=2"],
            cwd=tmp_path, env={**surroundings, "DISPLAY": f":{display}"}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        server.terminate()
        server.wait()
        os.close(read)
        os.close(write)
    assert played.returncode == 0, played.stderr
    assert "episode 1: " in played.stdout
    assert list(tmp_path.glob("*.gif")) == []
