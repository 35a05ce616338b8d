"""The level cache of one engine: what the engine asks for maps, and which seed its next episode gets."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sf_algo.envs.dmlab.level_maps import MapStore
from sf_algo.envs.dmlab.level_seeds import SeedDraws, SeedLists
from sf_algo.envs.dmlab.levels import Task


class LevelCache:
    """Give it to the engine as its `level_cache`. Its two callbacks never raise: the engine would not survive that."""

    def __init__(
        self, folder: Path, task: Task, *, experiment: Path | None = None, max_bytes: int | None = None
    ) -> None:
        """`experiment`: the folder through which its workers share out seeds; without it every seed is a fresh one."""
        self._store = MapStore(folder, max_bytes=max_bytes)
        self._lists = SeedLists(folder, task)
        self._draws = SeedDraws(experiment, self._lists, task) if experiment is not None else None
        self._drawn_from_cache = False
        self._keys: list[str] = []
        self._all_kept = True
        self.compiled = 0
        """Maps of the episode that were not in the cache."""

    def next_seed(self, fresh: Callable[[], int]) -> int:
        """The seed of the next episode: one whose maps are in the cache and that the experiment has not played, else a
        fresh one."""
        self._drawn_from_cache = False
        if self._draws is None:
            return fresh()
        try:
            seed, self._drawn_from_cache = self._draws.draw(fresh())
        except OSError as error:
            print(f"note: seeds of levels are not shared out: {error}", file=sys.stderr, flush=True)
            self._draws = None
            return fresh()
        return seed

    def begin_episode(self) -> None:
        """Before the engine is reset."""
        self._keys.clear()
        self._all_kept, self.compiled = True, 0

    @property
    def asked(self) -> bool:
        """The engine has asked for maps since then."""
        return bool(self._keys)

    def end_of_reset(self, seed: int) -> bool:
        """After it: the seed is noted where its maps are in the cache now. True where that was done."""
        if not self._keys or not self._all_kept or self._drawn_from_cache:
            return False
        return self._lists.add(seed, self._keys)

    def fetch(self, key: str, pk3_path: str) -> bool:
        """As the engine calls it."""
        found = False
        with suppress(Exception):
            self._note(key)
            found = self._store.fetch(key, Path(pk3_path))
        if not found:
            self.compiled += 1
        return found

    def write(self, key: str, pk3_path: str) -> None:
        """As the engine calls it, with a map that it has just compiled."""
        kept = False
        with suppress(Exception):
            self._note(key)
            kept = self._store.write(key, Path(pk3_path))
        self._all_kept = self._all_kept and kept

    def _note(self, key: str) -> None:
        if key not in self._keys:
            self._keys.append(key)
