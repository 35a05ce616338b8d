"""Waiting for processes without sleeping."""

from __future__ import annotations

import contextlib
import os
import select

_LIMIT_S = 30


def wait_for_end(pid: int) -> None:
    """Blocks until the process has ended, whosever child it is: that is when a pidfd becomes readable."""
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        ready, _, _ = select.select([fd], [], [], _LIMIT_S)
        os.close(fd)
        assert ready, f"process {pid} is still there after {_LIMIT_S} s"
