"""Files that are replaced whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from sf_algo.errors import StorageError

TEMPORARY_SUFFIX = ".tmp"


def write_atomically(path: Path, write: Callable[[IO[bytes]], None], *, what: str) -> None:
    """Runs `write` on a temporary file beside `path`, flushes it to disk and renames it into place.

    A crash at any moment leaves either the old file or the new one, never a mixture.

    Raises:
        StorageError: the folder or disk does not take the file; `path` is as it was before. `what` names the
            file in the message.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        raise StorageError(storage_fault(what, path, error)) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_bytes_atomically(path: Path, data: bytes | memoryview, *, what: str) -> None:
    """As `write_atomically`, for bytes at hand."""

    def write(file: IO[bytes]) -> None:
        file.write(data)

    write_atomically(path, write, what=what)


def remove_temporary_files(folder: Path) -> None:
    """Deletes what writers that died in the middle left in `folder`."""
    for path in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        with suppress(OSError):
            path.unlink()


def storage_fault(what: str, path: Path, error: OSError) -> str:
    """One line for a failed write: what, where, why, and what to do."""
    remedy = {
        errno.ENOSPC: "free some space on that disk",
        errno.EDQUOT: "free some of your quota there",
        errno.EACCES: "choose a --train_dir that you may write to",
        errno.EPERM: "choose a --train_dir that you may write to",
        errno.EROFS: "choose a --train_dir that you may write to",
    }.get(error.errno or 0)
    line = f"cannot write {what} {path}: {error.strerror or error}"
    return f"{line}; {remedy}" if remedy else line


def _flush_folder(folder: Path) -> None:
    """Makes the rename itself durable; some network file systems refuse, which costs nothing but
    durability."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
