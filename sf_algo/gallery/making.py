"""From a training to a trained policy: weights in half precision, an honest score, a picture, a card."""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sf_algo.checkpoints import Checkpoint, CheckpointStore
from sf_algo.config import Config
from sf_algo.cpus import usable_cpus
from sf_algo.errors import CheckpointError, StorageError
from sf_algo.gallery.animation import Animation
from sf_algo.gallery.card import PICTURE, Card, Score, file_digest
from sf_algo.gallery.playing import invocation_of, play
from sf_algo.gallery.shelf import check_name
from sf_algo.paths import ExperimentPaths
from sf_algo.watching.checkpoint import load_for_watching

_SOFTWARE = ("sf-runner", "torch", "numpy", "gymnasium", "vizdoom")
_PICTURE_FRAMES = 80


def half_precision(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as float16. What normalizers have counted stays as exact as it is: means of large numbers, variances of
    small ones and counts of frames do not fit into it."""
    return {
        name: tensor.to(torch.float16) if tensor.dtype == torch.float32 and "normalizer" not in name else tensor
        for name, tensor in ((name, tensor.detach().cpu().contiguous()) for name, tensor in weights.items())
    }


def make_policy(
    experiment: Path,
    target: Path,
    *,
    about: str,
    command: str,
    episodes: int,
    seed: int,
    deterministic: bool,
    kind: str = "latest",
) -> Card:
    """Makes the folder `target` from an experiment's. `command` trained it; empty: as its cfg.json says.

    The score is that of the weights that are written: they are played after they were made smaller.

    Raises:
        CheckpointError: no checkpoint, no name for a folder, or the folder is there already.
        SfAlgoError: the environment cannot be made or played.
        StorageError: the folder cannot be written.
    """
    check_name(target.name)
    if target.exists():
        raise CheckpointError(f"{target} is there already; remove it, or choose another --name")
    config = invocation_of(experiment, picture="none", deterministic=deterministic, kind=kind).config
    loaded = load_for_watching(config)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new_", dir=target.parent) as made:
            folder = Path(made) / target.name
            folder.mkdir()
            _write_config(ExperimentPaths(experiment).config, folder)
            small = half_precision(loaded.checkpoint.learner["model"])
            file = _write_weights(folder, loaded.checkpoint, small)
            score = _score(folder, episodes=episodes, seed=seed, deterministic=deterministic)
            _draw(folder, seed=seed, deterministic=deterministic)
            card = _card(target.name, config, loaded.checkpoint, file=file, about=about, command=command, score=score)
            card = replace(card, parameters=sum(w.numel() for n, w in small.items() if "normalizer" not in n))
            card.save(folder)
            shutil.move(str(folder), str(target))
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror or error}") from error
    return card


def _write_config(path: Path, folder: Path) -> None:
    """The experiment's cfg.json, without where it lay on the machine it was trained on."""
    body = json.loads(path.read_text(encoding="utf-8"))
    run = body.get("config", {}).get("run", {})
    run.update({"train_dir": "./train_dir", "experiments_root": None, "experiment": folder.name})
    (folder / path.name).write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")


def _write_weights(folder: Path, trained: Checkpoint, weights: Mapping[str, Tensor]) -> Path:
    small = Checkpoint(
        policy_id=0,
        policy_version=trained.policy_version,
        env_steps=trained.env_steps,
        learner={"model": weights},
        train_seconds=trained.train_seconds,
        best_metric=trained.best_metric,
    )
    return CheckpointStore(ExperimentPaths(folder).checkpoints(0), keep=1).save(small)


def _score(folder: Path, *, episodes: int, seed: int, deterministic: bool) -> Score:
    played = play(folder, picture="none", episodes=episodes, seed=seed, deterministic=deterministic)
    if played.exit_code:
        raise CheckpointError("a signal ended the episodes for the score; no policy was made")
    if len(played.results) < 2:
        raise CheckpointError("a score needs at least two episodes; use --episodes=100")
    values = [result.metrics()["true_reward"] for result in played.results]
    return Score.of(values, metric="true_reward", seed=seed, deterministic=deterministic)


def _draw(folder: Path, *, seed: int, deterministic: bool) -> None:
    """A picture of the first episode; none where the environment cannot be drawn."""
    animation = Animation(frame_s=0.1, most=_PICTURE_FRAMES)
    play(folder, picture="frames", episodes=1, seed=seed, deterministic=deterministic, animation=animation)
    if len(animation):
        animation.write(folder / PICTURE)


def _card(
    name: str, config: Config, trained: Checkpoint, *, file: Path, about: str, command: str, score: Score
) -> Card:
    return Card(
        name=name,
        env=str(config.run.env),
        about=about,
        command=command or f"python -m sf_algo.train_appo --env={config.run.env} (with the flags of its cfg.json)",
        env_steps=trained.env_steps,
        train_seconds=round(trained.train_seconds, 1),
        score=score,
        date=time.strftime("%Y-%m-%d"),
        machine=f"{platform.machine()} {platform.system()}, {usable_cpus()} cores",
        software={"python": platform.python_version(), **_versions()},
        parameters=0,
        file=file.name,
        sha256=file_digest(file),
    )


def _versions() -> dict[str, Any]:
    found = {}
    for name in _SOFTWARE:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
