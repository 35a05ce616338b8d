"""Where engines keep the maps they play: folders that are locked while their process lives, so that those of dead ones
can be told and removed. The kernel lets go of a lock however its process died."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from sf_algo.envs.dmlab.quiet import last_words
from sf_algo.errors import EnvError

log = logging.getLogger(__name__)

_NOISE = "engine.log"
_PREFIX = "dmlab_temp_folder_"
_MARK = "sf_"
"""Ours; what the engine would make itself, and other programs' engines do, has no lock and is not touched."""
_TRIES = 20
"""Somebody who cleans up may take a new folder, not locked yet, for one of a dead process."""


class TempFolder:
    """A folder for one engine of this process. The engine does not remove it; `noise` is where it prints to.

    Raises EnvError where the temporary folder's file system knows no locks.
    """

    def __init__(self) -> None:
        for _ in range(_TRIES):
            self.path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{_MARK}{os.getpid()}_"))
            self._fd = _lock(self.path)
            if self._fd >= 0:
                break
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            raise EnvError(
                f"folders in {tempfile.gettempdir()} cannot be locked; set TMPDIR to a folder on a local disk"
            )
        self.noise = self.path / _NOISE

    def remove(self) -> None:
        """May be called twice."""
        if self._fd >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._fd)
            self._fd = -1


def remove_dead_folders() -> list[str]:
    """Removes our user's folders whose process is gone, and tells what their engines said last; returns their names."""
    removed = []
    for path in sorted(Path(tempfile.gettempdir()).glob(f"{_PREFIX}{_MARK}*")):
        lock = _lock(path)
        if lock >= 0:
            words = last_words(path / _NOISE)
            if words:
                log.warning("an engine that died had printed: %s", words)
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)
            removed.append(path.name)
    return removed


def remove_own_folders() -> None:
    """Removes the folders of this very process: for one that dies without closing its engines."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}{_MARK}{os.getpid()}_*"):
        shutil.rmtree(path, ignore_errors=True)


def _lock(path: Path) -> int:
    """A descriptor that holds the lock of our user's folder; -1 where somebody else holds it, or there is none."""
    fd = -1
    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        if os.fstat(fd).st_uid == os.geteuid() and stat.S_ISDIR(os.fstat(fd).st_mode):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), path.lstat()):
                return fd
    if fd >= 0:
        os.close(fd)
    return -1
