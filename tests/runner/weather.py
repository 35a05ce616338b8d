"""Bad weather for a real runner and its jobs: the wall clock is set while they run, the disk is slow.

A small library of ours, preloaded, changes what they are told of the time; steady clocks and file times stay true.
"""

from __future__ import annotations

import functools
import mmap
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

_STATE = struct.Struct("=dII")


def why_not() -> str:
    """Why there can be none here; empty when there can."""
    if not sys.platform.startswith("linux"):
        return "the library is preloaded in the way of Linux"
    return "" if _compiler() else "the library that changes the clock is built with gcc: not found"


def _compiler() -> str | None:
    return shutil.which("gcc") or shutil.which("cc")


@functools.lru_cache(maxsize=1)
def _library_bytes() -> bytes:
    compiler = _compiler()
    assert compiler is not None
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "weather.so"
        source = Path(__file__).with_name("bad_weather.c")
        command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(target), str(source), "-ldl"]
        subprocess.run(command, check=True, capture_output=True, text=True)
        return target.read_bytes()


class Weather:
    """What programs started with `environ` live in; it changes while they run."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        library, state = folder / "weather.so", folder / "weather"
        library.write_bytes(_library_bytes())
        state.write_bytes(_STATE.pack(0.0, 0, 0))
        self.environ = {"LD_PRELOAD": str(library), "WEATHER": str(state)}
        self._offset_s = 0.0
        self._slow = (0, 0)
        with state.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), _STATE.size)

    @property
    def offset_s(self) -> float:
        return self._offset_s

    def set_clock(self, by_s: float) -> None:
        """Set the wall clock forward (back: negative) by so much from what it is."""
        self._offset_s += by_s
        self._write()

    def slow_disk(self, per_1000: int, at_most_s: float) -> None:
        """So many of 1000 calls that change files take up to so long from now on."""
        self._slow = (per_1000, int(at_most_s * 1e6))
        self._write()

    def _write(self) -> None:
        self._page[:] = _STATE.pack(self._offset_s, *self._slow)
