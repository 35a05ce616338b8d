"""Checkpoints survive crashes, full disks and bit rot, and hold everything."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sf_algo.checkpoints import FORMAT_VERSION, Checkpoint, CheckpointStore, load_checkpoint
from sf_algo.errors import CheckpointError, StorageError


def make(version: int, *, env_steps: int | None = None, **more: Any) -> Checkpoint:
    generator = torch.Generator().manual_seed(version)
    learner = {
        "model": {
            "w": torch.randn(4, 3, generator=generator),
            "empty": torch.zeros(0),
            "n": torch.tensor(version),
        },
        "half": torch.ones(3, dtype=torch.bfloat16),
        "optimizer": {"state": {0: {"step": 5, "exp_avg": torch.randn(3)}}, "betas": (0.9, 0.999)},
    }
    steps = version * 100 if env_steps is None else env_steps
    return Checkpoint(policy_id=0, policy_version=version, env_steps=steps, learner=learner, **more)


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoint_p0", keep=3)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and bool(a == b)


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def flip_a_byte(path: Path) -> None:
    """Alters one byte of a tensor's data and nothing else."""
    data = bytearray(path.read_bytes())
    tensor = load_checkpoint(path).learner["model"]["w"].numpy().tobytes()
    data[data.index(tensor) + 5] ^= 0xFF
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garble(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04 nonsense")


def test_round_trip(store: CheckpointStore) -> None:
    runtime = {
        "numpy": {"state": 2**120, "inc": 3},
        "window": [1.0, float("inf")],
        "flag": True,
        "none": None,
    }
    saved = make(7, train_seconds=1.5, best_metric=-2.0, runtime=runtime)
    path = store.save(saved)
    assert path.name == "checkpoint_000000007_700.pth"
    loaded = store.load_latest()
    assert loaded is not None
    assert loaded.notes == ()
    assert same(vars(loaded.checkpoint), vars(saved))
    assert torch.load(path, weights_only=True)["format_version"] == FORMAT_VERSION


def test_nothing_there(store: CheckpointStore) -> None:
    assert store.load_latest() is None
    assert store.load_best() is None


def test_no_best_yet(store: CheckpointStore) -> None:
    store.save(make(1))
    with pytest.raises(CheckpointError, match=r"no best checkpoint .* use --load_checkpoint_kind=latest"):
        store.load_best()


def test_rotation_keeps_the_newest_and_leaves_milestones_and_best(store: CheckpointStore) -> None:
    store.save_milestone(make(1))
    store.save_best(make(2), metric="true_reward", value=1.5)
    for version in (1, 2, 3, 1_000_000_000, 1_000_000_001):
        store.save(make(version))
    assert names(store.regular()) == [
        "checkpoint_000000003_300.pth",
        "checkpoint_1000000000_100000000000.pth",
        "checkpoint_1000000001_100000000100.pth",
    ]
    assert names(store.milestones()) == ["checkpoint_000000001_100.pth"]
    assert names(store.best()) == ["best_000000002_200_true_reward_1.500.pth"]


def test_a_better_one_replaces_the_best(store: CheckpointStore) -> None:
    store.save_best(make(2), metric="reward", value=1.0)
    store.save_best(make(3), metric="reward", value=2.0)
    assert names(store.best()) == ["best_000000003_300_reward_2.000.pth"]
    loaded = store.load_best()
    assert loaded is not None
    assert loaded.checkpoint.policy_version == 3


@pytest.mark.parametrize("damage", [truncate, empty, garble, flip_a_byte])
def test_a_damaged_newest_file_falls_back_to_the_one_before(
    store: CheckpointStore, damage: Callable[[Path], None]
) -> None:
    store.save(make(1))
    damaged = store.save(make(2))
    damage(damaged)
    loaded = store.load_latest()
    assert loaded is not None
    assert loaded.checkpoint.policy_version == 1
    (note,) = loaded.notes
    assert note.startswith(f"checkpoint {damaged} is damaged: ")
    assert "\n" not in note


def test_training_on_after_a_fallback(store: CheckpointStore) -> None:
    """The damaged file is out of the way: it is neither the newest again nor counted as one to keep."""
    store.save(make(1))
    truncate(store.save(make(5)))
    loaded = store.load_latest()
    assert loaded is not None
    (note,) = store.take_over(loaded)
    assert "moved checkpoint_000000005_500.pth to" in note
    store.save(make(2))
    again = store.load_latest()
    assert again is not None
    assert (again.checkpoint.policy_version, again.notes) == (2, ())
    assert (store.folder / "set_aside" / "checkpoint_000000005_500.pth").exists()


def test_training_on_from_the_best(store: CheckpointStore) -> None:
    store.save_best(make(2), metric="reward", value=1.0)
    for version in (4, 5):
        store.save(make(version))
    best = store.load_best()
    assert best is not None
    assert len(store.take_over(best)) == 2
    latest = store.load_latest()
    assert latest is not None
    assert latest.checkpoint.policy_version == 2
    assert names(store.best()) == ["best_000000002_200_reward_1.000.pth"]


def test_a_milestone_is_the_last_resort(store: CheckpointStore) -> None:
    store.save_milestone(make(1))
    truncate(store.save(make(2)))
    loaded = store.load_latest()
    assert loaded is not None
    assert loaded.checkpoint.policy_version == 1


def test_nothing_sound(store: CheckpointStore) -> None:
    for version in (1, 2):
        truncate(store.save(make(version)))
    with pytest.raises(CheckpointError, match=r"no sound checkpoint in .*--restart_behavior=restart"):
        store.load_latest()


def test_files_of_others_are_ignored(store: CheckpointStore) -> None:
    store.save(make(1))
    for name in (
        "checkpoint_final.pth",
        "checkpoint_1.pth",
        ".checkpoint_000000009_9.pth.3.tmp",
        "notes.txt",
    ):
        (store.folder / name).write_text("x")
    assert names(store.regular()) == ["checkpoint_000000001_100.pth"]
    loaded = store.load_latest()
    assert loaded is not None
    store.take_over(loaded)
    assert not list(store.folder.glob(".*.tmp"))


def test_foreign_and_newer_formats(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_000000001_1.pth"
    with pytest.raises(CheckpointError, match="does not exist"):
        load_checkpoint(path)
    torch.save({"model": 3}, path)
    with pytest.raises(CheckpointError, match="was not written by this trainer"):
        load_checkpoint(path)
    torch.save({"format_version": FORMAT_VERSION + 1}, path)
    with pytest.raises(CheckpointError, match="newer than"):
        load_checkpoint(path)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "evil"),))

    path = tmp_path / "checkpoint_000000001_1.pth"
    torch.save({"format_version": 1, "content": Evil()}, path)
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(path)
    assert not (tmp_path / "evil").exists()


def test_what_cannot_be_loaded_safely_is_not_saved(store: CheckpointStore) -> None:
    with pytest.raises(TypeError, match=r"content\['runtime'\]\['rng'\]\[1\] is a PosixPath"):
        store.save(make(1, runtime={"rng": [0, Path()]}))
    assert not store.folder.exists()


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """A limit on the size of files: writes beyond it fail, as on a full disk. Pytest's own output is a file too, so it
    holds only inside."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_loses_nothing(store: CheckpointStore) -> None:
    for version in (1, 2, 3):
        store.save(make(version))
    before = {path: path.read_bytes() for path in store.folder.iterdir()}
    match = r"cannot write checkpoint .*checkpoint_000000004_400.pth: .*"
    with full_disk(), pytest.raises(StorageError, match=match):
        store.save(make(4))
    assert {path: path.read_bytes() for path in store.folder.iterdir()} == before


def test_an_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write checkpoint"):
        CheckpointStore(tmp_path / "file" / "checkpoint_p0", keep=1).save(make(1))


def test_a_kill_in_the_middle_of_saving_leaves_sound_files(tmp_path: Path) -> None:
    """The writer is killed at the worst moment, between the temporary file and the rename."""
    program = f"""
import os, pathlib, signal, torch
from sf_algo.checkpoints import Checkpoint, CheckpointStore
store = CheckpointStore(pathlib.Path({str(tmp_path)!r}), keep=2)
def make(version):
    return Checkpoint(policy_id=0, policy_version=version, env_steps=0, learner={{"w": torch.ones(9)}})
store.save(make(1))
os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
store.save(make(2))
"""
    ended = subprocess.run([sys.executable, "-c", program], check=False)
    assert ended.returncode == -signal.SIGKILL
    store = CheckpointStore(tmp_path, keep=2)
    loaded = store.load_latest()
    assert loaded is not None
    assert loaded.checkpoint.policy_version == 1
    assert len(list(tmp_path.glob(".*.tmp"))) == 1
    store.take_over(loaded)
    assert not list(tmp_path.glob(".*.tmp"))
