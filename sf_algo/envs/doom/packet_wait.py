"""Where engines of a match sleep while they wait for each other (`packet_wait.c`), if this machine can compile it."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shlex
import subprocess
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from sf_algo.envs.doom.maps import cache_dir

log = logging.getLogger(__name__)

_SOURCE = Path(__file__).with_suffix(".c")
_COMPILE_LIMIT_S = 60


@lru_cache(maxsize=1)
def library() -> Path | None:
    """The library to load into engines of a match; compiled once for each user. None where that is not possible:
    matches are played all the same, but engines that wait keep their cores busy."""
    if platform.system() != "Linux":
        return None
    try:
        digest = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:12]
        path = cache_dir() / f"packet_wait_{platform.machine()}_{digest}.so"
        if not path.is_file():
            _compile(path)
        _check(path)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        log.info("engines cannot sleep while they wait (%s): matches of several agents take longer", error)
        return None
    return path


def _check(path: Path) -> None:
    """Raise OSError where the library may be somebody else's, or cannot be named to the loader."""
    found = path.stat()
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o002:
        raise OSError(f"{path} can be written by others")
    if any(separator in str(path) for separator in " :"):
        raise OSError(f"{path} has a blank or a colon in it")


def _compile(path: Path) -> None:
    """Write the library to `path`: whole, or not at all. Raises OSError or SubprocessError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        built = Path(folder) / path.name
        compiler = shlex.split(os.environ.get("CC", "cc"))
        command = [*compiler, "-O2", "-shared", "-fPIC", "-o", str(built), str(_SOURCE)]
        subprocess.run(command, check=True, capture_output=True, timeout=_COMPILE_LIMIT_S)
        with suppress(FileExistsError):
            built.replace(path)
