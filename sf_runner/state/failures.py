"""Why an attempt failed, told from its exit status and the end of its log; failures of one cause together."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from pathlib import Path

from sf_runner.basics.digest import digest
from sf_runner.basics.tail import tail_text
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import CauseKind, Failed, FailureCause, JobRecord

_TAIL_BYTES = 64 * 1024
_SUMMARY_CHARS = 200
_FRAME = re.compile(r'^\s+File "(?P<file>[^"]+)", line \d+, in (?P<name>\S+)')
_ERROR_LINE = re.compile(r"^[A-Za-z_][\w.<>]*(: .*|:)?$")
_LOOKS_LIKE_ERROR = re.compile(r"(error|exception)\b|\b(fatal|failed|aborted|killed|panicked)\b", re.IGNORECASE)
_GPU_OOM = re.compile(
    r"CUDA out of memory|CUDA error: out of memory|torch\.(cuda\.)?OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED"
    r"|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|RESOURCE_EXHAUSTED: Out of memory"
    r"|hipErrorOutOfMemory|HIP out of memory"
)
_HOST_OOM = re.compile(r"^(numpy\..*_ArrayMemoryError|MemoryError)\b|Cannot allocate memory|std::bad_alloc", re.M)
_ANSI = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
_LINES_AFTER_TRACEBACK = 100
"""More than trackers and the like print when a program ends."""
_VARYING = re.compile(r"0x[0-9a-fA-F]+|\d+(\.\d+)?|'[^']*'|\"[^\"]*\"|(/[\w.+-]+)+")


def explain(log: Path, *, code: int | None, signum: int | None) -> FailureCause:
    """The cause of a failed attempt, from its exit status and the last traceback (or telling line) of its log."""
    tail = tail_text(log, _TAIL_BYTES)
    how = _how_it_ended(code, signum)
    if _GPU_OOM.search(tail):
        return make_cause("gpu_oom", "out of GPU memory", "gpu_oom")
    # An exception that nobody caught ends Python with an exit code; before a signal, it was handled.
    traceback = _last_traceback(tail) if signum is None else None
    if traceback is not None:
        frames, error = traceback
        kind: CauseKind = "host_oom" if _HOST_OOM.search(error) else "exception"
        where = f" in {frames[-1]}" if frames else ""
        name = error.partition(":")[0]
        return make_cause(kind, f"{error}{where}", "|".join([*frames[-3:], name, _normalised(error)]))
    if _HOST_OOM.search(tail):
        return make_cause("host_oom", "out of memory", "host_oom")
    last, is_error = _telling_line(tail)
    if signum is not None:
        hint = " (killed from outside, or out of memory: see dmesg)" if signum == signal.SIGKILL else ""
        said = f": {last}" if is_error and signum in _CRASHES else ""
        return make_cause("signal", how + hint + said, f"signal {signum}|{_normalised(said)}")
    summary = f"{how}: {last}" if last else f"{how}, nothing in its log"
    return make_cause("exit", summary, f"{how}|{_normalised(last)}")


def make_cause(kind: CauseKind, summary: str, identity: str) -> FailureCause:
    """A cause whose fingerprint is equal for equal (kind, identity)."""
    text = " ".join(_CONTROL.sub(" ", _ANSI.sub("", summary)).split())
    if len(text) > _SUMMARY_CHARS:
        text = text[: _SUMMARY_CHARS - 1] + "…"
    return FailureCause(kind=kind, summary=text, fingerprint=digest((kind, identity), size=4))


def _how_it_ended(code: int | None, signum: int | None) -> str:
    if signum is not None:
        try:
            return f"ended by {signal.Signals(signum).name}"
        except ValueError:
            return f"ended by signal {signum}"
    return f"exit code {code}"


def _last_traceback(tail: str) -> tuple[list[str], str] | None:
    """Function names of the frames, outermost first, and the line that names the exception.

    None when there is no traceback, or so much follows it that the program must have gone on after it.
    """
    start = tail.rfind("Traceback (most recent call last):")
    if start < 0:
        return None
    frames: list[str] = []
    lines = tail[start:].splitlines()[1:]
    for number, line in enumerate(lines):
        if frame := _FRAME.match(line):
            frames.append(f"{Path(frame['file']).name}:{frame['name']}")
        elif line[:1] not in (" ", "\t", "") and (error := _ERROR_LINE.match(line)):
            went_on = len(lines) - number > _LINES_AFTER_TRACEBACK
            return None if went_on else (frames, error[0])
    return None


def _telling_line(tail: str) -> tuple[str, bool]:
    """The last line that looks like an error, and True; else the last line with anything on it."""
    lines = [line.strip() for line in _ANSI.sub("", tail).splitlines()[-50:] if line.strip()]
    for line in reversed(lines):
        if _LOOKS_LIKE_ERROR.search(line):
            return line, True
    return (lines[-1] if lines else ""), False


def _normalised(text: str) -> str:
    """Without numbers, addresses, quoted text and paths: what differs from job to job."""
    return _VARYING.sub("#", text)


@dataclass(frozen=True, kw_only=True)
class FailureGroup:
    """Failed jobs with the same fingerprint."""

    summary: str
    jobs: tuple[JobRecord, ...]


def failure_groups(state: RunState) -> list[FailureGroup]:
    """Largest first."""
    groups: dict[str, list[JobRecord]] = {}
    summaries: dict[str, str] = {}
    for record in state.failures():
        if isinstance(record.state, Failed):
            cause = record.state.cause
            groups.setdefault(cause.fingerprint, []).append(record)
            summaries.setdefault(cause.fingerprint, cause.summary)
    found = [FailureGroup(summary=summaries[key], jobs=tuple(records)) for key, records in groups.items()]
    return sorted(found, key=lambda group: -len(group.jobs))
