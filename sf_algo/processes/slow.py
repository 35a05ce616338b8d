"""Says who is being waited for, so that a long wait is not a silent one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

TELL_EVERY_S = 20.0
_LOOK_S = 0.5


class SlowWatch:
    """A thread that tells of something that takes long: every 20 s, for as long as the same thing goes on.

    `doing()` says what goes on and since when (monotonic clock), or None where that is nothing. Use it in a `with`
    statement.
    """

    def __init__(
        self,
        doing: Callable[[], tuple[str, float] | None],
        tell: Callable[[str], object],
        *,
        every_s: float = TELL_EVERY_S,
    ) -> None:
        self._doing = doing
        self._tell = tell
        self._every_s = every_s
        self._told_at = float("-inf")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="slow", daemon=True)

    def look(self, now: float) -> None:
        """Tells what is due at that moment."""
        found = self._doing()
        if found is None:
            return
        what, since = found
        if now - max(since, self._told_at) >= self._every_s:
            self._told_at = now
            self._tell(f"still waiting for {what}: {now - since:.0f} s so far")

    def _run(self) -> None:
        while not self._stopping.wait(min(_LOOK_S, self._every_s)):
            self.look(time.monotonic())

    def __enter__(self) -> SlowWatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
