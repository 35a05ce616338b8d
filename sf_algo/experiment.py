"""The folder of an experiment at the start of a training: made, locked, and cleared where that is asked
for."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from pathlib import Path
from types import TracebackType
from typing import IO, Literal

from sf_algo.errors import ExperimentInUseError, StorageError
from sf_algo.files import storage_fault
from sf_algo.paths import ExperimentPaths


class ExperimentLock:
    """Held while an experiment trains, so that two trainings never write into one folder.

    The kernel releases it when the holder dies. Entering raises ExperimentInUseError, naming the holder.
    """

    def __init__(self, paths: ExperimentPaths) -> None:
        self._path = paths.lock
        self._file: IO[str] | None = None

    def __enter__(self) -> ExperimentLock:
        try:
            file = self._path.open("a+")
        except OSError as error:
            raise StorageError(storage_fault("lock file", self._path, error)) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise ExperimentInUseError(
                f"{self._path.parent} is being trained by {holder}; wait for it, or choose another --experiment"
            ) from None
        except OSError:
            pass  # A file system without locks: nothing guards the folder there, as everywhere else.
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        self._file = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def make_experiment_dir(paths: ExperimentPaths) -> None:
    """Creates the folder and proves that files can be written into it.

    Raises:
        StorageError: one line saying what is wrong and what to do.
    """
    probe = paths.root / f".probe.{os.getpid()}"
    try:
        paths.root.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise StorageError(storage_fault("into", paths.root, error)) from error


def clear_experiment(paths: ExperimentPaths, behavior: Literal["resume", "restart", "overwrite"]) -> str | None:
    """Does what ``--restart_behavior`` says about an experiment that exists already; call it under the lock.

    Returns a line about what was done, or None. Only the trainer's own files are moved or deleted.

    Raises:
        StorageError: files could not be moved or deleted.
    """
    existing = paths.existing()
    if behavior == "resume" or not existing:
        return None
    try:
        if behavior == "overwrite":
            for path in existing:
                _delete(path)
            return f"deleted the previous training in {paths.root} (--restart_behavior=overwrite)"
        aside = _free_name(paths.root)
        aside.mkdir()
        for path in existing:
            path.rename(aside / path.name)
        return f"moved the previous training to {aside} (--restart_behavior=restart)"
    except OSError as error:
        raise StorageError(storage_fault("into", paths.root, error)) from error


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _free_name(root: Path) -> Path:
    number = 1
    while root.with_name(f"{root.name}_old{number}").exists():
        number += 1
    return root.with_name(f"{root.name}_old{number}")
