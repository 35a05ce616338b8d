"""Shared-memory segments that engines leave behind which are killed while they start.

vizdoom names three files per engine, `ViZDoomSM<id>`, `ViZDoomMQCtr<id>` and `ViZDoomMQDoom<id>`. Once an engine
has started, their names are removed (`engine.py`). A player that is killed before cannot do that. Which are still
in use is answered by the kernel: a read lease is granted only on a file that nobody has open or mapped for
writing, in whatever container that may be. Only files of our own user are looked at; a lease on other people's is
not ours to take.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

SHM_DIR = Path("/dev/shm")
_PATTERN = "ViZDoom*"
_MIN_AGE_WITHOUT_LEASES_S = 60.0


def remove_dead_segments(folder: Path = SHM_DIR) -> list[str]:
    """Removes our user's ViZDoom segments that nothing uses any more; returns their names."""
    removed = []
    for path in sorted(folder.glob(_PATTERN)):
        with suppress(FileNotFoundError):
            status = path.lstat()
            ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
            if ours and not _in_use(path, status):
                path.unlink()
                removed.append(path.name)
    return removed


def remove_own_segments(folder: Path = SHM_DIR) -> list[str]:
    """Removes the segments that this very process has mapped: for one that is about to die without closing
    its engines. Returns their names.
    """
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return []
    mapped = {Path(line.split(maxsplit=5)[5]) for line in lines if f" {folder}/" in line}
    removed = sorted(path.name for path in mapped if path.match(_PATTERN) and path.exists())
    for name in removed:
        (folder / name).unlink(missing_ok=True)
    return removed


def segments_of(instance_id: str, folder: Path = SHM_DIR) -> list[Path]:
    """The segments of one engine that still have names; none where it has no `instance_id`."""
    return sorted(folder.glob(f"{_PATTERN}{instance_id}")) if instance_id else []


def _in_use(path: Path, status: os.stat_result) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        # Should somebody open the file just now, the kernel tells the lease's holder; SIGIO would kill us.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return True
        return _seems_in_use(path, status)  # this kernel or file system has no leases
    finally:
        os.close(descriptor)
    return False


def _seems_in_use(path: Path, status: os.stat_result) -> bool:
    """Without leases: in use if young, if any process shows it among its maps or files, or if one of our own
    processes does not let us see."""
    if time.time() - status.st_mtime < _MIN_AGE_WITHOUT_LEASES_S:
        return True
    return any(_uses(process, str(path)) for process in _processes())


def _processes() -> Iterator[Path]:
    return (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _uses(process: Path, target: str) -> bool:
    try:
        if target in (process / "maps").read_text(errors="replace"):
            return True
        if process.name == str(os.getpid()):
            return False  # the one descriptor of ours is that of this very question
        return any(str(link.readlink()) == target for link in (process / "fd").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return False  # it ended meanwhile
    except PermissionError:
        with suppress(FileNotFoundError):
            return process.stat().st_uid == os.geteuid()
        return False
