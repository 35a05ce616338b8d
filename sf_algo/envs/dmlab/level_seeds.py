"""Which seeds have their maps in the cache, and which of them an experiment has not played yet.

    <cache>/seeds/<maps id>/<user>.txt     "<seed> <key> ..." per line, appended under a lock by that user's processes
    <cache>/_contributed/dmlab30/<level>.dm_lvl_seeds      the same, as Sample Factory 1.x wrote it; read only
    <experiment>/dmlab_levels/<maps id>.played             the seeds that the experiment has played, 4 bytes each
    <experiment>/dmlab_levels/<maps id>.read               how far its workers have read every list

All workers of an experiment draw through the last two, under one lock for each level: none of them plays a map that
another one plays or has played. A list grows while others read it; lines that were cut off by a kill are passed over.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from sf_algo.envs.dmlab.levels import SUITE, Task

SEED_LIMIT = 1 << 31
_SEED = np.dtype("<u4")
_FOREIGN = "dm_lvl_seeds"


class SeedLists:
    """The seeds of one task whose maps are in the cache."""

    def __init__(self, cache: Path, task: Task) -> None:
        self._folder = cache / "seeds" / task.maps_id
        plain = not task.settings and task.script.startswith(SUITE)
        self._foreign = cache / f"_{task.script}.{_FOREIGN}" if plain else None

    def add(self, seed: int, keys: list[str]) -> bool:
        """Notes that the maps of this seed are in the cache. False where that cannot be written."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with _locked(self._folder / f"{_user()}.txt") as fd:
                end = os.lseek(fd, 0, os.SEEK_END)
                begun = end > 0 and os.pread(fd, 1, end - 1) != b"\n"  # somebody was killed in the middle of a line
                line = "\n" * begun + " ".join([str(seed), *keys]) + "\n"
                if os.write(fd, line.encode()) != len(line):
                    os.ftruncate(fd, end)
                    return False
        except OSError:
            return False
        return True

    def files(self) -> list[Path]:
        """Everybody's lists."""
        own = sorted(self._folder.glob("*.txt"))
        return [*own, self._foreign] if self._foreign is not None and self._foreign.is_file() else own

    def all(self) -> list[int]:
        """Every seed once, in the order of the lists."""
        found = (seed for file in self.files() for seed, _ in _seeds_from(file, 0))
        return list(dict.fromkeys(found))


class SeedDraws:
    """Draws seeds for the workers of one experiment."""

    def __init__(self, experiment: Path, lists: SeedLists, task: Task) -> None:
        self._folder = experiment / "dmlab_levels"
        self._name = task.maps_id
        self._lists = lists

    def draw(self, fresh: int) -> tuple[int, bool]:
        """A seed that this experiment has not played, and whether its maps are in the cache; `fresh`, or one near it,
        where all of those have been played.

        Raises:
            OSError: the experiment's folder takes no files.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with _locked(self._folder / f"{self._name}.played") as fd:
            played = self._played(fd)
            seed = self._next_cached(played)
            cached = seed is not None
            if seed is None:
                seed = fresh
                while seed in played:
                    seed = (seed + 1) % SEED_LIMIT
            os.write(fd, np.asarray([seed], _SEED).tobytes())
        return seed, cached

    def _played(self, fd: int) -> set[int]:
        size = os.lseek(fd, 0, os.SEEK_END)
        whole = size - size % _SEED.itemsize
        if whole != size:
            os.ftruncate(fd, whole)
            os.lseek(fd, 0, os.SEEK_END)
        return set(np.frombuffer(os.pread(fd, whole, 0), _SEED).tolist())

    def _next_cached(self, played: set[int]) -> int | None:
        """The first seed of the lists that was not played; remembers how far they have been read."""
        memory = self._folder / f"{self._name}.read"
        try:
            places = json.loads(memory.read_text())
        except (OSError, ValueError):
            places = {}
        found = None
        for file in self._lists.files():
            for seed, end in _seeds_from(file, int(places.get(file.name, 0))):
                places[file.name] = end
                if seed not in played:
                    found = seed
                    break
            if found is not None:
                break
        temporary = memory.with_name(f".{memory.name}.{os.getpid()}")
        temporary.write_text(json.dumps(places))
        temporary.replace(memory)
        return found


def _seeds_from(file: Path, start: int) -> Iterator[tuple[int, int]]:
    """The seeds of a list from byte `start` on, each with where its line ends. The last line may not be whole yet."""
    try:
        with file.open("rb") as lines:
            lines.seek(start)
            for line in lines:
                if not line.endswith(b"\n"):
                    return
                start += len(line)
                first = line.split(None, 1)[0] if line.strip() else b""
                if first.isdigit() and int(first) < SEED_LIMIT:
                    yield int(first), start
    except OSError:
        return


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """A descriptor that appends to `path`, locked against other processes. Raises OSError."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.geteuid())
