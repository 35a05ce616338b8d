"""Asks the driver in a thread of its own: a hung GPU must not stop the runner.

A GPU that falls off the bus can make a driver call take seconds, or never return.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from sf_runner.basics.said import Said
from sf_runner.slots.devices import GpuSnapshot, GpuWarning

_ANSWER_S = 0.05
"""A driver that is well answers sooner; `snapshot` waits no longer for it."""
_FIRST_ANSWER_S = 30.0
"""Without persistence mode the first call wakes up every GPU, which takes seconds."""
_HUNG_S = 10.0


class Probe(Protocol):
    """What can be asked for the state of the GPUs."""

    def snapshot(self) -> GpuSnapshot:
        """The devices now."""

    def close(self) -> None:
        """Let go of the driver."""


class GpuProbe:
    """`snapshot` returns within 50 ms (the first time within 30 s), whatever the driver does.

    While an answer is overdue, the last one is repeated; every snapshot tells its age. Old values are consistent
    among themselves, so the accounts of promised memory hold with them too.
    """

    def __init__(
        self,
        probe: Probe,
        *,
        patience_s: float = _ANSWER_S,
        first_patience_s: float = _FIRST_ANSWER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._probe = probe
        self._patience_s, self._first_patience_s = patience_s, first_patience_s
        self._clock = clock
        self._questions: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[GpuSnapshot] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._asked_at: float | None = None
        self._last: GpuSnapshot | None = None
        self._last_asked_at = 0.0
        self._said = Said()

    def snapshot(self) -> GpuSnapshot:
        """The newest answer of the driver."""
        patience_s = 0.0
        if self._asked_at is None:
            self._ask()
            patience_s = self._first_patience_s if self._last is None else self._patience_s
        try:
            answer = self._answers.get(timeout=patience_s) if patience_s else self._answers.get_nowait()
        except queue.Empty:
            return self._overdue()
        assert self._asked_at is not None, "an answer without a question"
        self._last_asked_at, self._asked_at = self._asked_at, None
        self._last = replace(answer, warnings=())
        if self._said.forget("hung"):
            back = GpuWarning(kind="back", message="The NVIDIA driver answers again.")
            answer = replace(answer, warnings=(*answer.warnings, back))
        return replace(answer, age_s=self._clock() - self._last_asked_at)

    def close(self) -> None:
        """End the thread; one that hangs in the driver is left behind and ends with the process."""
        if self._thread is not None:
            self._questions.put(False)
            if self._asked_at is None:
                self._thread.join()
            self._thread = None

    def _ask(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="gpu-probe", daemon=True)
            self._thread.start()
        self._asked_at = self._clock()
        self._questions.put(True)

    def _work(self) -> None:
        while self._questions.get():
            self._answers.put(self._probe.snapshot())
        self._probe.close()

    def _overdue(self) -> GpuSnapshot:
        assert self._asked_at is not None
        waited_s = self._clock() - self._asked_at
        warnings: tuple[GpuWarning, ...] = ()
        if (waited_s >= _HUNG_S or self._last is None) and self._said.first("hung"):
            text = (
                f"The NVIDIA driver has not answered for {waited_s:.0f} s (a hung GPU? see `dmesg`): "
                "nothing new is known about the GPUs."
            )
            warnings = (GpuWarning(kind="driver", message=text),)
        if self._last is None:
            return GpuSnapshot(warnings=warnings)
        return replace(self._last, warnings=warnings, age_s=self._clock() - self._last_asked_at)
