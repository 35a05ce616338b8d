"""Limits how many engines of one user start at the same moment, over all processes of the machine."""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sf_algo.cpus import usable_cpus
from sf_algo.errors import EnvError

log = logging.getLogger(__name__)

_POLL_S = 0.02
_MATCH_PATIENCE_S = 50.0


def scratch_dir() -> Path:
    """A folder of our user for lock files and for what the engine insists on creating where it runs.

    Raises EnvError where that name is taken by somebody else.
    """
    path = Path(tempfile.gettempdir()) / f"sf_algo-{os.geteuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    if path.lstat().st_uid != os.geteuid() or not path.is_dir() or path.is_symlink():
        raise EnvError(f"{path} is not a folder of yours; have it removed, or set TMPDIR to another folder")
    return path


def default_places() -> int:
    """Starting an engine takes one core about 0.1 s, half of it waiting."""
    return max(4, 2 * usable_cpus())


@contextmanager
def match_place(engines: int) -> Iterator[None]:
    """A place to start that many engines which wait for each other: all of them count as one, for half of them with a
    place and half without would wait for ever."""
    places = max(1, default_places() // max(1, engines))
    kind = "doom_start" if engines == 1 else f"doom_match_of_{engines}"
    with start_place(scratch_dir(), places=places, timeout_s=_MATCH_PATIENCE_S, kind=kind):
        yield


@contextmanager
def start_place(
    folder: Path, *, places: int, timeout_s: float = 60.0, kind: str = "doom_start"
) -> Iterator[int | None]:
    """Holds one of `places` start places, each a lock file in `folder`; a dead holder's is free at once.

    Yields its number, or None when none came free in time: starting late beats not starting.
    """
    deadline = time.monotonic() + timeout_s
    first = os.getpid()  # neighbours begin their search at different places
    while True:
        for attempt in range(places):
            place = (first + attempt) % places
            descriptor = os.open(folder / f"{kind}_{place}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            try:
                yield place
            finally:
                os.close(descriptor)
            return
        if time.monotonic() > deadline:
            log.warning("no place to start a VizDoom engine came free in %.0f s; starting without one", timeout_s)
            yield None
            return
        time.sleep(_POLL_S)
