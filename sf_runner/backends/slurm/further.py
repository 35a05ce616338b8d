"""Whether an experiment that is ended at its time limit again and again gets any further.

By what it says of its progress, where it does. Where it does not, only that is certain which leaves no trace: it does
nothing of its own when it is told to end, saves no file, and what it prints begins each time like the time before.

Standard library only: the wrapper imports it on the node.
"""

from __future__ import annotations

import os
import signal
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from sf_runner.backends.slurm.batches import TaskJob
from sf_runner.backends.slurm.task_records import JobHistory
from sf_runner.backends.slurm.time_limit import Deadline
from sf_runner.basics.clock import steady_s
from sf_runner.progress import Progress, read_progress

_OUTPUT_BYTES = 1 << 18
_MAX_FILES = 300
_DEPTHS = (9, 2)
"""Of folders that are looked into: in its own folder, and in the one in which it runs."""
_MIN_GAIN = 0.1
_WHOLE = 0.8

Finding = Literal["further", "stuck", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What an attempt had left when its time was over.

    step: None where it does not say. log: path of its output. files: inode, size and time of what could be its files,
    by a hash of their path; None: too many to tell. handled: it did something of its own when it was told to end."""

    step: float | None = None
    log: str = ""
    files: Mapping[str, Sequence[int]] | None = None
    handled: bool = True

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def read_trace(body: Mapping[str, Any] | None) -> Trace | None:
    try:
        return Trace(**body) if body else None
    except TypeError:
        return None


def is_done(job: TaskJob, attempt: int) -> bool:
    """Whether an attempt that has ended says in its progress file that it had finished."""
    progress = _own_progress(job.folder, attempt)
    return progress is not None and progress.done


def look_back(
    job: TaskJob, attempt: int, record: Mapping[str, Any], history: JobHistory, deadline: Deadline, run_folder: Path
) -> dict[str, Any]:
    """What is written down of an attempt whose time was over, beside its record; see `told_of`. Nothing of one that had
    only the rest of the time, because others of its job had run before.

    history: of the attempts before it."""
    elapsed_s = deadline.elapsed_s(steady_s())
    if record.get("duration_s", elapsed_s) < _WHOLE * elapsed_s:
        return {}
    trace = trace_of(job, attempt, record, run_folder=str(run_folder))
    ends = [end for number, end in sorted(history.ends.items()) if end.reason == "limit" and number < attempt]
    traces = [seen for end in ends if (seen := read_trace(end.trace)) is not None]
    return {"trace": trace.to_json(), **told_of([*traces, trace], deadline.flag)}


def trace_of(job: TaskJob, attempt: int, record: Mapping[str, Any], *, run_folder: str) -> Trace:
    """Of an attempt that has just ended. run_folder: where the runner and other experiments of the run write."""
    folder, progress = job.folder, _own_progress(job.folder, attempt)
    own = os.path.dirname(os.path.abspath(folder))  # noqa: PTH100, PTH120
    apart = {os.path.abspath(folder), os.path.abspath(run_folder)}  # noqa: PTH100
    return Trace(
        step=progress.step if progress is not None else None,
        log=job.log(attempt),
        files=_listing((own, os.getcwd()), apart),  # noqa: PTH109
        handled=record.get("signal") not in (signal.SIGTERM, signal.SIGKILL),
    )


def finding(traces: Sequence[Trace]) -> Finding:
    """About the last of the attempts of an experiment that were ended at their limit, oldest first."""
    if len(traces) < 2:
        return "unknown"
    steps = [trace.step for trace in traces if trace.step is not None]
    if len(steps) == len(traces):
        # One that begins anew each time gets about as far each time.
        return "further" if steps[-1] - steps[-2] > _MIN_GAIN * steps[0] else "stuck"
    before, last = traces[-2:]
    if last.handled or _saved(before.files, last.files) or not _begin_alike(before.log, last.log):
        return "unknown"
    return "stuck"


def told_of(traces: Sequence[Trace], flag: str) -> dict[str, str]:
    """`error`: why it is not tried again; `doubt`: what a person should know; nothing while all is well. flag: what
    sets the limit."""
    found = finding(traces)
    times = len(traces)
    more = f"give it more time ({flag}), or have it save more often"
    if found == "stuck":
        step = traces[-1].step
        where = (
            f"at step {step:g}" if step is not None else "it saves nothing, and what it prints is the same each time"
        )
        return {"error": f"its time was over {times} times without getting any further ({where}); {more}"}
    if found == "unknown" and times == 2:
        return {"doubt": f"its time was over twice, and nothing shows whether it gets further; if it does not, {more}"}
    return {}


def _own_progress(folder: str, attempt: int) -> Progress | None:
    """What the progress file says, unless an earlier attempt left it behind."""
    progress = read_progress(f"{folder}/progress.json")
    return progress if progress is not None and progress.is_of(attempt) else None


def _saved(before: Mapping[str, Sequence[int]] | None, last: Mapping[str, Sequence[int]] | None) -> bool:
    """Whether a file may have been saved in between: it is new, another one, or was written without becoming longer.
    One that has only grown is somebody's log."""
    if before is None or last is None:
        return True
    for path, (inode, size, time_ns) in last.items():
        old_inode, old_size, old_time_ns = before.get(path, (0, 0, 0))
        if inode != old_inode or (time_ns != old_time_ns and size <= old_size):
            return True
    return False


def _begin_alike(before: str, last: str) -> bool:
    """Whether one log is how the other begins, and none is empty unless both are."""
    first, second = _read(before), _read(last)
    shared = min(len(first), len(second))
    return first[:shared] == second[:shared] and bool(first) == bool(second)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read(_OUTPUT_BYTES)
    except OSError:
        return b""


def _listing(folders: Sequence[str], apart: set[str]) -> dict[str, list[int]] | None:
    found: dict[str, list[int]] = {}
    for folder, depth in zip(folders, _DEPTHS, strict=True):
        for entry in _files(folder, depth, apart):
            if len(found) >= _MAX_FILES:
                return None
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            name = f"{zlib.crc32(os.fsencode(entry.path)):x}"
            found[name] = [status.st_ino, status.st_size, status.st_mtime_ns]
    return found


def _files(folder: str, depth: int, apart: set[str]) -> Iterator[os.DirEntry[str]]:
    """Files in it, down to so many folders."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.path in apart:
            continue
        if entry.is_dir(follow_symlinks=False):
            if depth > 1:
                yield from _files(entry.path, depth - 1, apart)
        else:
            yield entry
