"""Exit records: what is kept of an attempt that has ended. Standard library only."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sf_runner.basics.files import replace_file
from sf_runner.basics.json_line import json_line
from sf_runner.linux.kernel import EndedChild


def write_record(path: str, record: Mapping[str, Any]) -> None:
    """Replace `path` atomically by the record as JSON. OSError when the disk is full or read-only."""
    replace_file(path, json_line(record).encode())


def read_record(path: str, attempt: int) -> dict[str, Any] | None:
    """The exit record of exactly that attempt, or None."""
    try:
        record = json.loads(Path(path).read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("attempt") == attempt else None


def was_termed(record: Mapping[str, Any]) -> bool:
    """Whether it looks as if TERM had ended the attempt."""
    return record.get("signal") == signal.SIGTERM or record.get("exit_code") == 128 + signal.SIGTERM


def exit_record(
    attempt: int, started: float | None, ended: EndedChild, *, duration_s: float | None = None
) -> dict[str, Any]:
    """What is kept of an ended attempt.

    `started` and `ended` are unix times; the clock may have been set in between, so `duration_s` is measured apart.

    `max_rss_mb` is that of the largest single process; the kernel counts the moment before exec too, so it is never
    below the runner's own memory. It and `cpu_s` are left out, `started` is None where nobody can tell.
    """
    record: dict[str, Any] = {
        "version": 1,
        "attempt": attempt,
        "pid": ended.pid,
        "exit_code": ended.exit_code,
        "signal": ended.signal,
        "started": None if started is None else round(started, 3),
        "ended": round(time.time(), 3),
    }
    if duration_s is not None:
        record["duration_s"] = round(duration_s, 3)
    if ended.cpu_s is not None:
        record |= {"max_rss_mb": ended.max_rss_mb, "cpu_s": ended.cpu_s}
    return record
