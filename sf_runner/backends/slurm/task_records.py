"""What the wrapper of a Slurm task writes down, one JSON object per line, one writer at a time.

    {"e": "begin", "t": ..., "n": 1, "array": "17", "node": "n1", "beat_s": 15}
        the wrapper started, for the n-th time; it changes the file's time so often for as long as it lives
    {"e": "start", "t": ..., "job": ..., "attempt": 1, "pid": ..., "gpus": "0"}
    {"e": "end", "t": ..., "job": ..., "attempt": 1, "record": {...}, "told": ""}
    {"e": "requeue", "t": ..., "error": ""}                          it asked Slurm to queue the task again

Standard library only: the wrapper imports it on the node.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sf_runner.basics.clock import steady_s

BEAT_S = 15.0
"""How often a wrapper shows that it lives."""

EndReason = Literal["", "order", "limit", "term", "lost", "error", "taken"]
"""Why an attempt ended: `""` by itself, `order` of the runner, `limit` of its time, `term`: TERM from outside, `lost`:
its machine or wrapper was gone, `error`: it could not be started, `taken`: another task runs it. Recorded as `told`."""


@dataclass(frozen=True, kw_only=True)
class AttemptStart:
    attempt: int
    t: float
    begin: int
    """Which start of the wrapper it belongs to."""
    pid: int = 0
    node: str = ""
    gpus: str | None = None
    """CUDA_VISIBLE_DEVICES; None: not set."""


@dataclass(frozen=True, kw_only=True)
class AttemptEnd:
    attempt: int
    t: float
    reason: EndReason
    record: Mapping[str, Any] | None = None
    error: str = ""
    oom: bool = False
    by: Mapping[str, Any] = field(default_factory=dict)
    """Who runs it, where it was taken."""
    trace: Mapping[str, Any] | None = None
    """Of one that was ended at its time limit; see `further.Trace`."""
    doubt: str = ""
    """What a person should know of an attempt that is tried again."""


@dataclass(kw_only=True)
class JobHistory:
    """Attempts of one job in one task, by number."""

    starts: dict[int, AttemptStart] = field(default_factory=dict)
    ends: dict[int, AttemptEnd] = field(default_factory=dict)

    @property
    def last(self) -> int:
        """Number of the last attempt that was started or ended; 0: none."""
        return max([*self.starts, *self.ends], default=0)


@dataclass(kw_only=True)
class TaskHistory:
    """The fold of a task's records."""

    begins: int = 0
    array_id: str = ""
    node: str = ""
    fresh: bool = False
    """Whether nothing was started or ended since the wrapper last began."""
    requeues: int = 0
    requeue_error: str = ""
    beat_s: float = 0.0
    """How often the wrapper shows that it lives; 0: it does not."""
    jobs: dict[str, JobHistory] = field(default_factory=dict)
    offset: int = 0
    """Bytes read so far."""

    @property
    def live(self) -> bool:
        """Whether an experiment was started of which no end is written down."""
        return any(job.starts.keys() - job.ends.keys() for job in self.jobs.values())

    def apply(self, line: Mapping[str, Any]) -> None:
        kind = line.get("e")
        if kind == "begin":
            self.begins, self.array_id, self.node = int(line["n"]), str(line["array"]), str(line["node"])
            self.beat_s = float(line.get("beat_s", 0.0))
            self.requeue_error, self.fresh = "", True
        elif kind == "requeue":
            error = str(line.get("error", ""))
            if not error:
                self.requeues += 1
            elif not error.startswith("--"):  # it was asked for, and refused
                self.requeues -= 1
            self.requeue_error = error
        elif kind == "start":
            self.fresh = False
            start = AttemptStart(begin=self.begins, node=self.node, **_known(AttemptStart, line))
            self.jobs.setdefault(line["job"], JobHistory()).starts[start.attempt] = start
        elif kind == "end":
            self.fresh = False
            end = AttemptEnd(reason=line.get("told", ""), **_known(AttemptEnd, line))
            self.jobs.setdefault(line["job"], JobHistory()).ends[end.attempt] = end


def _known(cls: Any, line: Mapping[str, Any]) -> dict[str, Any]:
    """What of a record this version knows of."""
    return {name: value for name, value in line.items() if name in cls.__dataclass_fields__}


def read_history(path: Path, history: TaskHistory) -> bool:
    """Fold in what was written since; whether there was anything. A line that is still being written is left."""
    try:
        with path.open("rb") as file:
            file.seek(history.offset)
            data = file.read()
    except OSError:
        return False
    whole = data[: data.rfind(b"\n") + 1]
    history.offset += len(whole)
    for line in whole.splitlines():
        try:
            body = json.loads(line)
            if isinstance(body, dict):
                history.apply(body)
        except (ValueError, KeyError, TypeError):
            continue  # torn when a node died; what it would have said is told by Slurm
    return bool(whole)


def last_beat(path: Path) -> int | None:
    """Changes whenever the wrapper wrote anything or showed that it lives; None: there is nothing of it.

    It is compared with an earlier one only: the file server has a clock of its own."""
    try:
        with path.open("rb") as file:  # a file that is opened is looked up anew, on NFS too
            return os.fstat(file.fileno()).st_mtime_ns
    except OSError:
        return None


class RecordWriter:
    """Appends. A torn last line of a wrapper that was killed is closed first."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        size = os.fstat(self._fd).st_size
        if size and os.pread(self._fd, 1, size - 1) != b"\n":
            os.write(self._fd, b"\n")

    def beat(self) -> None:
        """Show that the wrapper lives."""
        with suppress(OSError):
            os.utime(self._fd)

    def write(self, **body: Any) -> None:
        """OSError when the disk is full."""
        os.write(self._fd, json.dumps(body, separators=(",", ":")).encode() + b"\n")
        os.fsync(self._fd)


class Beats:
    """A wrapper's signs of life, and those of another start of the same task. begin: which start this one is."""

    def __init__(self, path: Path, records: RecordWriter, begin: int) -> None:
        self._path = path
        self._records = records
        self._begin = begin
        self._history = TaskHistory()
        self._beaten_at = float("-inf")

    def is_replaced(self) -> bool:
        """Show that this wrapper lives, if it is time. Whether Slurm has started the task anew meanwhile: it does when
        it has lost sight of the node, which may go on by itself."""
        if steady_s() - self._beaten_at < BEAT_S:
            return False
        self._beaten_at = steady_s()
        self._records.beat()
        read_history(self._path, self._history)
        return self._history.begins > self._begin


class NoRecords(RecordWriter):
    """Of a wrapper that has been replaced: what it would say belongs to the other one."""

    def __init__(self) -> None:
        """Nothing is opened."""

    def beat(self) -> None:
        pass

    def write(self, **body: Any) -> None:
        pass
