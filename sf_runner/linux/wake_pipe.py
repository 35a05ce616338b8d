"""A pipe that wakes up who waits in `select`: written to by a thread, a signal handler or the interpreter."""

from __future__ import annotations

import contextlib
import os

_CAPACITY = 65536


class WakePipe:
    """`fd` becomes readable when anything was written to `write_fd`. Neither end ever blocks."""

    def __init__(self) -> None:
        self.fd, self.write_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self.write_fd, False)

    def ring(self) -> None:
        with contextlib.suppress(OSError):  # full: somebody has been woken up
            os.write(self.write_fd, b"!")

    def drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, _CAPACITY)

    def close(self) -> None:
        os.close(self.fd)
        os.close(self.write_fd)
