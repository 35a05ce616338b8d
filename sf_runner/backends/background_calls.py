"""Makes calls that may take long in threads, so that the run loop never waits for a cluster."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from sf_runner.linux.wake_pipe import WakePipe


class BackgroundCalls:
    """A queue of calls: made one after another, or up to `threads` of them at a time.

    `wake` is rung when a result can be had from `collect`.
    """

    def __init__(self, wake: WakePipe, *, threads: int = 1) -> None:
        self._wake = wake
        self._queue: queue.SimpleQueue[Callable[[], Callable[[], None]] | None] = queue.SimpleQueue()
        self._done: deque[Callable[[], None]] = deque()
        self._open = 0
        self._max_threads = threads
        self._threads: list[threading.Thread] = []
        self._start_thread()

    @property
    def busy(self) -> bool:
        """Whether anything asked for is not yet answered."""
        return self._open > 0

    def ask(self, call: Callable[[], Any], answer: Callable[[Any], None]) -> None:
        """Call `call` in a thread; `answer` gets its result, or the exception, in `collect`."""
        self._open += 1

        def work() -> Callable[[], None]:
            try:
                result = call()
            except Exception as exc:  # told to whoever asked
                result = exc
            return lambda: answer(result)

        self._queue.put(work)
        if len(self._threads) < min(self._open, self._max_threads):
            with contextlib.suppress(RuntimeError):  # no more threads on this machine: those that there are have to do
                self._start_thread()

    def collect(self) -> None:
        """Deliver the answers that are in, in the caller's thread."""
        while self._done:
            deliver = self._done.popleft()
            self._open -= 1
            deliver()

    def close(self, patience_s: float | None = None) -> bool:
        """Finish what was asked for; blocks until then, or for so long. Whether all is done: only then may `wake` be
        closed."""
        for _ in self._threads:
            self._queue.put(None)
        until = None if patience_s is None else time.monotonic() + patience_s
        for thread in self._threads:
            thread.join(None if until is None else max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name="calls", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _work(self) -> None:
        while (call := self._queue.get()) is not None:
            self._done.append(call())
            self._wake.ring()
