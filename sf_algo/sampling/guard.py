"""Notices an environment that hangs in the main process, where nobody else could."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Protocol, TypeAlias

from sf_algo.processes.absence import AbsenceWatch

_CHECK_S = 0.5


Activity: TypeAlias = tuple[int, bool, float]
"""What the main thread does with environments: the environment that runs (-1 for none), whether it is being reset, and
since when (monotonic clock). A plain tuple, since one is made for every step."""


class Watched(Protocol):
    """What the guard reads."""

    activity: Activity


class HangGuard:
    """A thread that calls `on_hang(message)` once, when an environment has not come back in time.

    The main thread may be stuck for ever, so `on_hang` has to end the process itself.
    """

    def __init__(
        self,
        watched: Watched,
        *,
        step_timeout_s: float,
        reset_timeout_s: float,
        on_hang: Callable[[str], None],
    ) -> None:
        self._watched = watched
        self._step_timeout_s = step_timeout_s
        self._reset_timeout_s = reset_timeout_s
        self._on_hang = on_hang
        self._main_thread = threading.get_ident()
        self._absence = AbsenceWatch(min(step_timeout_s, reset_timeout_s))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="guard", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(_CHECK_S):
            message = self._fault(self._absence.look())
            if message is not None:
                self._on_hang(message)
                return

    def _fault(self, back: float) -> str | None:
        env_index, is_resetting, since = self._watched.activity
        limit = self._reset_timeout_s if is_resetting else self._step_timeout_s
        if env_index < 0 or time.monotonic() - max(since, back) <= limit:
            return None
        doing, flag = ("start", "--reset_timeout_seconds") if is_resetting else ("step", "--heartbeat_interval")
        frame = sys._current_frames().get(self._main_thread)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
        what = f"environment {env_index} has not come back from its {doing} for {limit:g} s (see {flag})"
        return f"{what}:\n{stack}"
