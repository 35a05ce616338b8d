"""Makes calls that may take long in a thread, one after another, so that the run loop never waits for Slurm."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any


class BackgroundCalls:
    """A queue of calls. A byte is written to `wake_fd` when a result can be had from `collect`."""

    def __init__(self, wake_fd: int) -> None:
        self._wake_fd = wake_fd
        self._queue: queue.SimpleQueue[Callable[[], Callable[[], None]] | None] = queue.SimpleQueue()
        self._done: deque[Callable[[], None]] = deque()
        self._open = 0
        self._thread = threading.Thread(target=self._work, name="slurm", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether anything asked for is not yet answered."""
        return self._open > 0

    def ask(self, call: Callable[[], Any], answer: Callable[[Any], None]) -> None:
        """Call `call` in the thread; `answer` gets its result, or the exception, in `collect`."""
        self._open += 1

        def work() -> Callable[[], None]:
            try:
                result = call()
            except Exception as exc:  # told to whoever asked
                result = exc
            return lambda: answer(result)

        self._queue.put(work)

    def collect(self) -> None:
        """Deliver the answers that are in, in the caller's thread."""
        while self._done:
            deliver = self._done.popleft()
            self._open -= 1
            deliver()

    def close(self, patience_s: float | None = None) -> bool:
        """Finish what was asked for; blocks until then, or for so long. Whether all is done."""
        self._queue.put(None)
        self._thread.join(patience_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (call := self._queue.get()) is not None:
            self._done.append(call())
            with contextlib.suppress(OSError):
                os.write(self._wake_fd, b"!")
