"""Files that others read while they are written: replaced whole, or created by one of many. Standard library only."""

from __future__ import annotations

import errno
import itertools
import os
from contextlib import suppress
from pathlib import Path

_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK, errno.EACCES)
_serial = itertools.count()


def replace_file(path: str | Path, data: bytes) -> None:
    """Replace `path` by a file with these bytes, at once. OSError when the disk is full or read-only; then the file is
    as it was."""
    tmp = f"{path}.tmp"
    try:
        _write(tmp, data, os.O_TRUNC)
        os.rename(tmp, path)  # noqa: PTH104
    except OSError:
        with suppress(OSError):
            os.unlink(tmp)  # noqa: PTH108
        raise


def create_once(path: Path, text: str) -> bool:
    """Create `path` with this text; False when it exists.

    Of several that try at once, on whatever machines of a shared file system, one succeeds. The file appears whole
    where there are hard links; elsewhere it is empty for a moment. OSError when nothing can be written there.
    """
    draft = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}.{next(_serial)}")
    try:
        _write(draft, text.encode(), os.O_TRUNC, sync=True)
        try:
            os.link(draft, path)  # exclusive on NFS too
        except OSError as exc:
            if exc.errno not in _NO_LINKS:
                raise
            _write(path, text.encode(), os.O_EXCL, sync=True)
    except FileExistsError:
        return False
    finally:
        with suppress(OSError):
            os.unlink(draft)  # noqa: PTH108
    return True


def _write(path: str | Path, data: bytes, flags: int, *, sync: bool = False) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o644)
    try:
        if os.write(fd, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)
