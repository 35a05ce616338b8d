"""Progress of a job, written by the job itself: `from sf_runner.progress import report`.

The runner names a file in the environment variable SF_RUNNER_PROGRESS_FILE; `report` replaces it atomically
and keeps a history beside it. Outside the runner it does nothing. Any language can write the file:
docs/progress.md.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

ENVIRONMENT_VARIABLE = "SF_RUNNER_PROGRESS_FILE"
ATTEMPT_VARIABLE = "SF_RUNNER_ATTEMPT"
FORMAT_VERSION = 1

_WRITE_INTERVAL_S = 1.0
_HISTORY_POINTS_PER_INTERVAL = 500
_RATE_WINDOW = 30
_MAX_FILE_BYTES = 1 << 20
_MAX_HISTORY_BYTES = 64 << 20


def report(
    step: float | None = None,
    total: float | None = None,
    fps: float | None = None,
    metrics: Mapping[str, object] | None = None,
    phase: str | None = None,
    **more_metrics: object,
) -> bool:
    """Tell the runner how far this job is: `report(step=100, total=1000, reward=3.5)`.

    What is left out keeps its last value. The file is written at most once a second, and at once for the
    first call, a new phase and the last step; a call in between costs a few microseconds, and the latest
    values are written when the program ends. Without `fps` the steps per second are measured.

    step, total: how far it is and how far it goes, in any unit.
    fps: steps (frames) per second.
    metrics, more_metrics: numbers, also arrays and tensors of one element.
    phase: a word such as "train" or "evaluate".

    Never raises for a file that cannot be written. Returns True when the file was written.
    """
    path = os.environ.get(ENVIRONMENT_VARIABLE)
    if not path:
        return False
    return _writer_for(path).update(
        step=step, total=total, fps=fps, metrics={**(metrics or {}), **more_metrics}, phase=phase
    )


class ProgressWriter:
    """Writes one progress file and its history. Safe to call from several threads."""

    def __init__(self, path: str | Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = str(path)
        self._clock = clock
        self._lock = threading.Lock()
        self._values: dict[str, object] = {}
        self._metrics: dict[str, object] = {}
        self._pending = False
        self._ended = False
        self._next_write = -math.inf
        self._rate = _Rate()
        self._history = _History(history_path(self._path))

    def update(
        self,
        *,
        step: float | None = None,
        total: float | None = None,
        fps: float | None = None,
        metrics: Mapping[str, object] | None = None,
        phase: str | None = None,
    ) -> bool:
        """Take new values; write them when it is time. Returns True when the file was written."""
        with self._lock:
            new_phase = phase is not None and phase != self._values.get("phase")
            for key, value in (("step", step), ("total", total), ("fps", fps), ("phase", phase)):
                if value is not None:
                    self._values[key] = value
            if metrics:
                self._metrics.update(metrics)
            self._pending = True
            now = self._clock()
            was_at_end, self._ended = self._ended, self._at_end()
            if now >= self._next_write or new_phase or (self._ended and not was_at_end):
                return self._write(now)
            return False

    def flush(self) -> bool:
        """Write what `update` held back. Returns True when the file was written."""
        with self._lock:
            return self._write(self._clock()) if self._pending else False

    def _at_end(self) -> bool:
        step, total = self._values.get("step"), self._values.get("total")
        try:
            return step is not None and total is not None and bool(step >= total)  # type: ignore[operator]
        except Exception:
            return False

    def _write(self, now: float) -> bool:
        self._next_write = now + _WRITE_INTERVAL_S
        text = json.dumps(self._record(now), separators=(",", ":"))
        temporary = f"{self._path}.{os.getpid()}.tmp"
        try:
            with open(temporary, "w", encoding="utf-8") as file:  # noqa: PTH123  the fast way
                file.write(text)
            os.replace(temporary, self._path)  # noqa: PTH105
        except OSError:
            with suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108
            return False
        self._pending = False
        self._history.add(text, now)
        return True

    def _record(self, now: float) -> dict[str, object]:
        step, total = _number(self._values.get("step")), _number(self._values.get("total"))
        rate = self._rate.measure(step, now)
        fps = _number(self._values.get("fps"))
        record: dict[str, object] = {"version": FORMAT_VERSION, "time": round(time.time(), 3)}
        if (attempt := os.environ.get(ATTEMPT_VARIABLE, "")).isdecimal():
            record["attempt"] = int(attempt)
        if self._values.get("phase") is not None:
            record["phase"] = str(self._values["phase"])
        remaining = None if step is None or total is None else max(total - step, 0)
        optional = {
            "step": step,
            "total": total,
            "fps": _short(rate if fps is None else fps),
            "eta_s": _short(remaining / rate) if remaining is not None and rate else None,
        }
        record.update((key, value) for key, value in optional.items() if value is not None)
        record["metrics"] = {str(name): _number(value) for name, value in self._metrics.items()}
        return record


class _Rate:
    """Steps per second over the last writes."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, float]] = deque(maxlen=_RATE_WINDOW)

    def measure(self, step: float | None, now: float) -> float | None:
        if step is None:
            return None
        if self._points and step < self._points[-1][1]:
            self._points.clear()
        self._points.append((now, step))
        elapsed = now - self._points[0][0]
        gained = step - self._points[0][1]
        return gained / elapsed if elapsed > 0 and gained > 0 else None


class _History:
    """Appends records, ever more rarely: the interval doubles after every 500, so a month of training stays
    small."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._interval_s = _WRITE_INTERVAL_S
        self._points = 0
        self._next = -math.inf

    def add(self, text: str, now: float) -> None:
        if now < self._next:
            return
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            try:
                size = os.fstat(descriptor).st_size
                torn = not self._points and size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                os.write(descriptor, f"{chr(10) if torn else ''}{text}\n".encode())
            finally:
                os.close(descriptor)
        except OSError:
            return
        self._points += 1
        if self._points % _HISTORY_POINTS_PER_INTERVAL == 0:
            self._interval_s *= 2
        # A little less than the interval, so that writes at exactly that distance are not skipped by turns.
        self._next = now + 0.9 * self._interval_s


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """What a job last said about itself. Everything but the time may be missing."""

    time_unix_s: float
    attempt: int | None = None
    """Which attempt wrote it."""
    phase: str | None = None
    step: float | None = None
    total: float | None = None
    fps: float | None = None
    eta_s: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    not_finite: frozenset[str] = frozenset()
    """Metrics whose value was NaN or infinite (null in the file)."""

    @property
    def fraction(self) -> float | None:
        """Done part from 0 to 1; None when step or total are unknown."""
        if self.step is None or not self.total or self.total < 0:
            return None
        return min(max(self.step / self.total, 0.0), 1.0)

    def is_of(self, attempt: int) -> bool:
        """Whether that attempt may have written it. Where the file does not say, it was: the file of an earlier one is
        removed when an attempt is started."""
        return self.attempt is None or self.attempt == attempt

    @property
    def done(self) -> bool:
        """Whether it says that it did everything it was to do."""
        if self.phase in _DONE_PHASES:
            return True
        return self.step is not None and self.total is not None and self.step >= self.total > 0


_DONE_PHASES = ("done", "finished", "completed")


def read_progress(path: str | Path) -> Progress | None:
    """The progress in a file, whoever wrote it; None when there is none or it is torn or not in the
    format."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return parse_progress(file.read(_MAX_FILE_BYTES), default_time=os.fstat(file.fileno()).st_mtime)
    except OSError:
        return None


def parse_progress(text: bytes | str, *, default_time: float = 0.0) -> Progress | None:
    """One JSON object of the format. Fields of a wrong type count as missing; unknown ones are ignored."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    metrics = record.get("metrics")
    phase = record.get("phase")
    metrics = metrics if isinstance(metrics, dict) else {}
    numbers = ((str(name), _number(value)) for name, value in metrics.items())
    time_unix_s, attempt = _number(record.get("time")), record.get("attempt")
    return Progress(
        attempt=attempt if isinstance(attempt, int) else None,
        time_unix_s=default_time if time_unix_s is None else time_unix_s,
        phase=phase if isinstance(phase, str) else None,
        step=_number(record.get("step")),
        total=_number(record.get("total")),
        fps=_number(record.get("fps")),
        eta_s=_number(record.get("eta_s")),
        metrics={name: value for name, value in numbers if value is not None},
        not_finite=frozenset(
            str(name)
            for name, value in metrics.items()
            if value is None or (isinstance(value, float) and not math.isfinite(value))
        ),
    )


def read_history(path: str | Path) -> list[Progress]:
    """Every readable line of a progress history, in the order it was written; empty when there is none."""
    return list(_iter_history(path))


def history_path(path: str | Path) -> str:
    """The history that belongs to a progress file: `progress.json` -> `progress_history.jsonl`."""
    return f"{os.path.splitext(path)[0]}_history.jsonl"  # noqa: PTH122


def _iter_history(path: str | Path) -> Iterator[Progress]:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            lines = file.read(_MAX_HISTORY_BYTES).split(b"\n")
    except OSError:
        return
    for line in lines:
        progress = parse_progress(line) if line else None
        if progress is not None:
            yield progress


def _number(value: object) -> float | None:
    """A finite number as int or float, None for anything else. Arrays and tensors of one element are
    numbers."""
    if value is None or isinstance(value, (str, bytes, dict, list, tuple)):
        return None
    try:
        item = getattr(value, "item", None)
        plain = item() if callable(item) else value
        if isinstance(plain, int):
            return int(plain)
        number = float(plain)  # type: ignore[arg-type]
    except Exception:
        return None
    return number if math.isfinite(number) else None


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


_writers: dict[tuple[int, str], ProgressWriter] = {}
"""One writer per process and file: throttling needs to remember, and a forked child must not share its
parent's."""


def _writer_for(path: str) -> ProgressWriter:
    key = (os.getpid(), path)
    writer = _writers.get(key)
    if writer is None:
        if not any(pid == key[0] for pid, _ in _writers):
            atexit.register(_flush_all)
        writer = _writers.setdefault(key, ProgressWriter(path))
    return writer


def _flush_all() -> None:
    for (pid, _), writer in _writers.items():
        if pid == os.getpid():
            writer.flush()
