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
    record: Mapping[str, Any] | None
    reason: EndReason
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
            start = AttemptStart(
                attempt=line["attempt"],
                t=line["t"],
                begin=self.begins,
                pid=line["pid"],
                node=self.node,
                gpus=line.get("gpus"),
            )
            self.jobs.setdefault(line["job"], JobHistory()).starts[start.attempt] = start
        elif kind == "end":
            self.fresh = False
            end = AttemptEnd(
                attempt=line["attempt"],
                t=line["t"],
                record=line.get("record"),
                reason=line.get("told", ""),
                error=line.get("error", ""),
                oom=line.get("oom", False),
                by=line.get("by") or {},
                trace=line.get("trace"),
                doubt=line.get("doubt", ""),
            )
            self.jobs.setdefault(line["job"], JobHistory()).ends[end.attempt] = end


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
