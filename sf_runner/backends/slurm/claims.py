"""Who may do something that must be done once: a file that exactly one of many can create.

Standard library only: the wrapper imports it on the node.
"""

from __future__ import annotations

import errno
import itertools
import os
import time
from contextlib import suppress
from pathlib import Path

_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK, errno.EACCES)
_WRITING_S = 2.0
_serial = itertools.count()


def claim(path: Path, text: str) -> str:
    """Create `path` with this text unless it exists; the text that is in it then.

    Of several that try at once, on whatever machines of a shared file system, all are told the same text. It has to
    say who wrote it: a reply of a file server may be lost, so that only what is read back tells who was first.
    OSError when nothing can be written there.
    """
    draft = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}.{next(_serial)}")
    try:
        with open(draft, "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # with all of its text at once; exclusive on NFS too
        except FileExistsError:
            pass
        except OSError as exc:
            if exc.errno not in _NO_LINKS:
                raise
            _create(path, text)
    finally:
        with suppress(OSError):
            os.unlink(draft)  # noqa: PTH108
    return read_claim(path) or ""


def read_claim(path: Path) -> str | None:
    """What the one who was first wrote; None: nobody claimed it. OSError when that cannot be told."""
    deadline = time.monotonic() + _WRITING_S
    while True:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None
        if text or time.monotonic() > deadline:  # without links it is empty for a moment
            return text
        time.sleep(0.05)


def _create(path: Path, text: str) -> None:
    """Where there are no hard links."""
    with suppress(FileExistsError):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, text.encode())
            os.fsync(fd)
        finally:
            os.close(fd)
