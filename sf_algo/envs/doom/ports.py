"""UDP ports for matches, which never clash between workers, experiments and users of a machine.

Ports come in pairs: the engine binds the even one, and whoever is going to start that engine holds the odd one bound
for as long as the match lasts. So two matches of ours never try the same port, and a holder that dies frees it.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from itertools import count

from sf_algo.errors import EnvCrashedError, EnvError

FIRST_PORT, LAST_PORT = 20_000, 31_998
"""Below the ports that Linux gives to outgoing connections."""
_PAIRS = (LAST_PORT - FIRST_PORT) // 2 + 1
_taken_before = count()


class PortLease:
    """A port that nobody else of us uses until `close`."""

    def __init__(self, port: int, guard: socket.socket | None) -> None:
        self.port = port
        self._guard = guard

    def close(self) -> None:
        """May be called twice."""
        if self._guard:
            self._guard.close()


def lease_port(wanted: int | None = None) -> PortLease:
    """A port that was free a moment ago: `wanted`, or any. Raises EnvError where that one is taken, EnvCrashedError
    where all are."""
    if wanted is not None:
        probe = _bound("", wanted)
        if probe is None:
            raise EnvError(f"--match_port={wanted}: another program has this UDP port; choose another, or end it")
        probe.close()
        return PortLease(wanted, None)
    # neighbours begin their search at different places, and a port that just failed is not tried again at once
    first = (os.getpid() * 61 + next(_taken_before)) % _PAIRS
    for attempt in range(_PAIRS):
        port = FIRST_PORT + 2 * ((first + attempt) % _PAIRS)
        guard = _bound("127.0.0.1", port + 1)
        if guard is None:
            continue
        probe = _bound("", port)  # as the engine does
        if probe is not None:
            probe.close()
            return PortLease(port, guard)
        guard.close()
    raise EnvCrashedError(f"all UDP ports from {FIRST_PORT} to {LAST_PORT} are taken; end some matches")


def _bound(address: str, port: int) -> socket.socket | None:
    """A UDP socket of that port; None where it is taken."""
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        found.bind((address, port))
    except OSError as error:
        with suppress(OSError):
            found.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            return None
        raise EnvCrashedError(f"cannot open UDP port {port}, which matches need: {error.strerror}") from error
    return found
