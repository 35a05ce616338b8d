"""Compiled maps on disk, shared by all workers, experiments and users of a machine: one file for each map.

A map is written under a temporary name and renamed, so whatever is killed in between leaves whole maps only. Nothing
here raises: a map that cannot be kept is compiled again some day.

    <folder>/maps/<first digit>/<key>.pk3     ours
    <folder>/<key>                            Sample Factory 1.x's, read only
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import sys
import time
import zipfile
from contextlib import suppress
from pathlib import Path

_TEMPORARY = ".part"
_STALE_S = 86400.0
_FAN_OUT = "0123456789abcdef"
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.+")


class MapStore:
    """The files of one cache folder. `max_bytes` bounds what is kept: nothing is added beyond it."""

    def __init__(self, folder: Path, *, max_bytes: int | None = None) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._told = False

    def fetch(self, key: str, destination: Path) -> bool:
        """Copies the map to where the engine wants it. False where there is none; the engine dies if it is told True
        and finds no file, so a damaged map counts as none, and is removed."""
        for source in self._places(key):
            try:
                shutil.copyfile(source, destination)
                if zipfile.is_zipfile(destination):
                    return True
            except OSError:
                continue
            with suppress(OSError):
                source.unlink()
        with suppress(OSError):
            destination.unlink()
        return False

    def holds(self, key: str) -> bool:
        return any(place.is_file() for place in self._places(key))

    def write(self, key: str, source: Path) -> bool:
        """Keeps the map. False where it is not kept: no room, no permission, or not a name for a file."""
        if self.holds(key):
            return True
        place = self._own_place(key)
        if place is None:
            return False
        temporary = place.with_name(f".{socket.gethostname()}.{os.getpid()}.{key}{_TEMPORARY}")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if not self._has_room(place.parent, source.stat().st_size):
                return False
            shutil.copyfile(source, temporary)
            temporary.replace(place)
        except OSError as error:
            self._tell(error)
            return False
        finally:
            with suppress(OSError):
                temporary.unlink()
        return True

    def remove_leftovers(self) -> None:
        """Removes what writers left that were killed in the middle: those of this machine, and old ones."""
        host = socket.gethostname()
        for path in self.folder.glob(f"maps/?/.*{_TEMPORARY}"):
            with suppress(OSError, ValueError):
                pid = path.name.removeprefix(f".{host}.").partition(".")[0]
                dead = pid.isdecimal() and not Path(f"/proc/{pid}").exists()
                if dead or time.time() - path.stat().st_mtime > _STALE_S:
                    path.unlink()

    def size(self) -> tuple[int, int]:
        """Maps and bytes of ours."""
        sizes = [entry.stat().st_size for digit in _FAN_OUT for entry in _entries(self.folder / "maps" / digit)]
        return len(sizes), sum(sizes)

    def _places(self, key: str) -> list[Path]:
        own = self._own_place(key)
        return [] if own is None else [own, self.folder / key]

    def _own_place(self, key: str) -> Path | None:
        """Keys end with an MD5 sum, whose first digit spreads the maps over folders."""
        digest = key.rpartition("_")[2]
        if not digest or digest[0] not in _FAN_OUT or not set(key) <= _SAFE or key.startswith("."):
            return None
        return self.folder / "maps" / digest[0] / f"{key}.pk3"

    def _has_room(self, folder: Path, more: int) -> bool:
        """Each of the 16 folders may hold its share: looking at one is cheap, and keys are spread evenly."""
        if self._max_bytes is None:
            return True
        held = sum(entry.stat().st_size for entry in _entries(folder))
        return held + more <= self._max_bytes // len(_FAN_OUT)

    def _tell(self, error: OSError) -> None:
        if not self._told:
            self._told = True
            remedy = {errno.ENOSPC: "; free some space on that disk", errno.EDQUOT: "; free some of your quota there"}
            print(
                f"note: maps cannot be kept in --dmlab_level_cache_path={self.folder}: "
                f"{error.strerror or error}{remedy.get(error.errno or 0, '')}; the training goes on without",
                file=sys.stderr,
                flush=True,
            )


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if entry.is_file(follow_symlinks=False)]
    except OSError:
        return []
