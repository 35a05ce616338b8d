"""A doorbell wakes one waiting process or thread. It carries no data: whoever is woken looks at shared
memory."""

from __future__ import annotations

import os
import select
from contextlib import suppress

_ONE = (1).to_bytes(8, "little")
_READ_BYTES = 4096
_HAS_EVENTFD = hasattr(os, "eventfd")


class Doorbell:
    """An eventfd, or a pipe where there is none. Rings are counted as one: several rings wake once."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        """Wraps descriptors made by `create` (in this process or, inherited, in a child)."""
        self.read_fd = read_fd
        self.write_fd = write_fd
        self._poll = select.poll()
        self._poll.register(read_fd, select.POLLIN)

    @classmethod
    def create(cls) -> Doorbell:
        if _HAS_EVENTFD:
            fd = os.eventfd(0, os.EFD_CLOEXEC)
            return cls(fd, fd)
        read_fd, write_fd = os.pipe()
        os.set_blocking(write_fd, False)
        return cls(read_fd, write_fd)

    @property
    def fds(self) -> tuple[int, int]:
        """What a child needs to wrap the same doorbell: (read_fd, write_fd)."""
        return self.read_fd, self.write_fd

    def ring(self) -> None:
        """Wake the waiter, now or when it next waits. Never blocks."""
        with suppress(BlockingIOError):  # a full pipe wakes just as well
            os.write(self.write_fd, _ONE)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Sleep until it rings (True) or the time is over (False); `None` waits for ever. Clears the bell."""
        if timeout_s is not None and not self._poll.poll(timeout_s * 1000):
            return False
        os.read(self.read_fd, _READ_BYTES)
        return True

    def close(self) -> None:
        for fd in {self.read_fd, self.write_fd}:
            with suppress(OSError):
                os.close(fd)
