"""Process groups: whether somebody in them is still alive. A process that was sent SIGKILL takes a while to end."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

_POLL_S = 0.01
_DEAD = ("Z", "X")
"""A zombie uses nothing any more, and where nobody reaps it stays for ever."""


def members(groups: Collection[int]) -> list[int]:
    """The living processes of these groups, as /proc knows them; empty where there is no /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            # pid (name, which may hold anything) state ppid pgrp ...
            state, _, group = path.read_text().rpartition(")")[2].split()[:3]
            if int(group) in groups and state not in _DEAD:
                found.append(int(path.parent.name))
    return found


def wait_until_gone(groups: Collection[int], limit_s: float) -> bool:
    """Waits for the end of all processes of these groups. False when some are still there after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while members(groups):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
