"""Checkpoints: written whole or not at all, recognised when torn, loaded without running code from them.

A checkpoint is a file of ``torch.save`` that ``torch.load(weights_only=True)`` reads: a dictionary of
tensors, numbers, strings and containers of them, with a digest of its contents. Names are
``checkpoint_<policy version:09d>_<environment frames>.pth``; the one with the largest version is the newest.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sf_algo.errors import CheckpointError, StorageError
from sf_algo.files import remove_temporary_files, storage_fault, write_bytes_atomically

FORMAT_VERSION = 1
SUFFIX = ".pth"
_NAME = re.compile(r"(?:checkpoint|best)_(?P<version>\d+)_(?P<env_steps>\d+)(_.*)?\.pth")
_DIGEST_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything one policy needs to go on as if it had never stopped."""

    policy_id: int
    policy_version: int
    env_steps: int
    """Environment frames this policy was trained on."""
    learner: Mapping[str, Any]
    """`Learner.state_dict()`: weights, normalizers, optimizer, learning rate, counters."""
    train_seconds: float = 0.0
    best_metric: float | None = None
    """The best value of ``--save_best_metric`` so far."""
    runtime: Mapping[str, Any] = field(default_factory=dict)
    """State of everything else that training depends on: generators, environment counters, averages."""


@dataclass(frozen=True, kw_only=True)
class LoadedCheckpoint:
    """A sound checkpoint, and what was wrong with newer files that had to be passed over."""

    checkpoint: Checkpoint
    path: Path
    notes: tuple[str, ...] = ()


class CheckpointStore:
    """The checkpoints of one policy in one folder."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        """`keep` is the number of newest checkpoints that `save` leaves; milestones and the best are
        extra."""
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}")
        self.folder = folder
        self._keep = keep

    def save(self, checkpoint: Checkpoint) -> Path:
        """Writes the newest checkpoint, then removes those beyond `keep`.

        Raises:
            StorageError: it cannot be written; all older checkpoints are still there.
        """
        path = self.folder / _name("checkpoint", checkpoint)
        _write(path, checkpoint)
        for old in self.regular()[: -self._keep]:
            with suppress(OSError):
                old.unlink()
        return path

    def save_milestone(self, checkpoint: Checkpoint) -> Path:
        """Writes a checkpoint that is never removed. Raises StorageError."""
        path = self.folder / "milestones" / _name("checkpoint", checkpoint)
        _write(path, checkpoint)
        return path

    def save_best(self, checkpoint: Checkpoint, *, metric: str, value: float) -> Path:
        """Writes the best checkpoint, then removes the one that was best before. Raises StorageError."""
        safe = re.sub(r"[^A-Za-z0-9]+", "_", metric)
        path = self.folder / f"{_name('best', checkpoint).removesuffix(SUFFIX)}_{safe}_{value:.3f}{SUFFIX}"
        before = self.best()
        _write(path, checkpoint)
        for old in before:
            if old != path:
                with suppress(OSError):
                    old.unlink()
        return path

    def regular(self) -> list[Path]:
        """The checkpoints that `save` wrote, oldest first."""
        return _in_order(self.folder.glob(f"checkpoint_*{SUFFIX}"))

    def best(self) -> list[Path]:
        """The best checkpoint, last in the list; more than one only after a crash between write and
        removal."""
        return _in_order(self.folder.glob(f"best_*{SUFFIX}"))

    def milestones(self) -> list[Path]:
        """The milestones, oldest first."""
        return _in_order((self.folder / "milestones").glob(f"checkpoint_*{SUFFIX}"))

    def load_latest(self) -> LoadedCheckpoint | None:
        """The newest sound checkpoint, a milestone if need be; None where there is none at all.

        Raises:
            CheckpointError: there are checkpoints, but not one of them is sound.
        """
        return _first_sound(_in_order([*self.milestones(), *self.regular()]))

    def load_best(self) -> LoadedCheckpoint | None:
        """The best checkpoint; None where there is none at all.

        Raises:
            CheckpointError: it is damaged, or there are checkpoints but no best one yet.
        """
        if self.regular() and not self.best():
            raise CheckpointError(
                f"no best checkpoint in {self.folder} yet (see --save_best_after and --stats_avg); use "
                "--load_checkpoint_kind=latest"
            )
        return _first_sound(self.best())

    def take_over(self, loaded: LoadedCheckpoint) -> tuple[str, ...]:
        """To be called before training goes on from `loaded`, which becomes the newest checkpoint: newer
        files (torn ones, or those after the best) move to ``set_aside/``. Returns a line for each.

        Raises:
            StorageError: the folder cannot be written.
        """
        remove_temporary_files(self.folder)
        newest = self.folder / _name("checkpoint", loaded.checkpoint)
        if not newest.exists():
            write_bytes_atomically(newest, loaded.path.read_bytes(), what="checkpoint")
        notes = []
        for path in self.regular():
            if _order_of(path) > _order_of(newest):
                aside = self.folder / "set_aside" / path.name
                try:
                    aside.parent.mkdir(exist_ok=True)
                    path.replace(aside)
                except OSError as error:
                    raise StorageError(storage_fault("checkpoint", aside, error)) from error
                notes.append(f"moved {path.name} to {aside.parent}: training goes on from {loaded.path.name}")
        return tuple(notes)


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads one file onto the CPU.

    Raises:
        CheckpointError: missing, torn, altered, not ours, or of a newer format version.
    """
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"checkpoint {path} does not exist") from None
    except MemoryError:
        raise
    except Exception as error:  # Whatever a damaged file makes the reader do, it is not a checkpoint.
        raise CheckpointError(f"checkpoint {path} is damaged: {_first_sentence(error)}") from error
    version = document.get("format_version") if isinstance(document, dict) else None
    if not isinstance(version, int):
        raise CheckpointError(f"checkpoint {path} was not written by this trainer")
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"checkpoint {path} has format version {version}, newer than {FORMAT_VERSION}: update this package"
        )
    if document.get("digest") != _digest(document.get("content")):
        raise CheckpointError(f"checkpoint {path} is damaged: its contents do not match their digest")
    checkpoint = Checkpoint(**document["content"])
    if wrong := unsound_tensors(checkpoint.learner.get("model", {})):
        raise CheckpointError(f"checkpoint {path} is of no use: {wrong[0]} holds numbers that are none (NaN)")
    return checkpoint


def unsound_tensors(state: Mapping[str, Any]) -> list[str]:
    """Names of the tensors of a network's state that hold NaN. (An infinity may be meant, in a mask for instance.)"""
    return [
        name
        for name, tensor in state.items()
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point() and bool(torch.isnan(tensor).any())
    ]


def _write(path: Path, checkpoint: Checkpoint) -> None:
    content = {
        "policy_id": checkpoint.policy_id,
        "policy_version": checkpoint.policy_version,
        "env_steps": checkpoint.env_steps,
        "learner": dict(checkpoint.learner),
        "train_seconds": checkpoint.train_seconds,
        "best_metric": checkpoint.best_metric,
        "runtime": dict(checkpoint.runtime),
    }
    # In memory first: a full disk then meets one plain write instead of the middle of torch's writer.
    buffer = io.BytesIO()
    torch.save({"format_version": FORMAT_VERSION, "digest": _digest(content), "content": content}, buffer)
    write_bytes_atomically(path, buffer.getbuffer(), what="checkpoint")


def _name(kind: str, checkpoint: Checkpoint) -> str:
    return f"{kind}_{checkpoint.policy_version:09d}_{checkpoint.env_steps}{SUFFIX}"


def _order_of(path: Path) -> tuple[int, int]:
    match = _NAME.fullmatch(path.name)
    return (int(match["version"]), int(match["env_steps"])) if match else (-1, -1)


def _in_order(paths: Iterable[Path]) -> list[Path]:
    """Checkpoints among `paths`, oldest first; files with foreign names are left out."""
    return sorted((path for path in paths if _NAME.fullmatch(path.name)), key=_order_of)


def _first_sound(oldest_first: Sequence[Path]) -> LoadedCheckpoint | None:
    notes: list[str] = []
    for path in reversed(oldest_first):
        try:
            return LoadedCheckpoint(checkpoint=load_checkpoint(path), path=path, notes=tuple(notes))
        except CheckpointError as error:
            notes.append(str(error))
    if notes:
        raise CheckpointError(
            f"no sound checkpoint in {oldest_first[0].parent}: {notes[0]}; restore one, or begin anew with "
            "--restart_behavior=restart"
        )
    return None


def _first_sentence(error: Exception) -> str:
    """The first sentence: torch adds a paragraph of guesses."""
    return str(error).split("\n", 1)[0].split(". ", 1)[0] or type(error).__name__


def _digest(content: object) -> str:
    """Digest of nested containers of tensors and plain values, whatever torch's file format looks like."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    _feed(digest, content, "content")
    return digest.hexdigest()


def _feed(digest: Any, value: object, where: str) -> None:
    if isinstance(value, torch.Tensor):
        plain = value.detach().cpu().contiguous()
        digest.update(f"tensor {plain.dtype} {tuple(plain.shape)} ".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, Mapping):
        digest.update(f"mapping {len(value)} ".encode())
        for key, item in value.items():
            digest.update(f"{type(key).__name__} {key!r} ".encode())
            _feed(digest, item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        digest.update(f"{type(value).__name__} {len(value)} ".encode())
        for index, item in enumerate(value):
            _feed(digest, item, f"{where}[{index}]")
    elif value is None or type(value) in (bool, int, float, str, bytes):
        digest.update(f"{type(value).__name__} {value!r} ".encode())
    else:
        raise TypeError(f"{where} is a {type(value).__name__}, not a tensor or a plain value")
