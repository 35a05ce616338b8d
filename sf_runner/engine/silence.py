"""How long running attempts have been silent, as far as this process could see.

A write to the log or to the progress file is a sign of life. It is seen as a change of the file and counted from the
moment of the look: the times of files are of their file server's clock, which says nothing about ours.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sf_runner.basics.paths import JobPaths

_Seen = tuple[int, ...]


@dataclass(kw_only=True)
class _Attempt:
    attempt: int
    seen: _Seen
    since: float


class Silence:
    """`absent_s`: looks further apart mean that this process was not run for a while, perhaps with all experiments;
    their silence counts from its return."""

    def __init__(self, absent_s: float) -> None:
        self._absent_s = absent_s
        self._attempts: dict[str, _Attempt] = {}
        self._looked_at = float("-inf")

    def look(self, running: Iterable[tuple[str, int, JobPaths]], now: float) -> dict[str, float]:
        """Seconds of silence of each of these attempts (job, number, files) by `now`, of the steady clock. Those that
        have written nothing yet are left out: they start up."""
        returned = now - self._looked_at > self._absent_s
        self._looked_at = now
        before, self._attempts = self._attempts, {}
        silent = {}
        for job, number, paths in running:
            seen = _look_at(paths, number)
            if not seen:
                continue
            known = before.get(job)
            if known is None or (known.attempt, known.seen) != (number, seen) or returned:
                known = _Attempt(attempt=number, seen=seen, since=now)
            self._attempts[job] = known
            silent[job] = now - known.since
        return silent


def _look_at(paths: JobPaths, attempt: int) -> _Seen:
    """What changes whenever the attempt writes; empty while it has written nothing. The progress file of an earlier
    attempt was removed when this one was started."""
    log, progress = _status(paths.attempt_log(attempt)), _status(paths.progress)
    parts: _Seen = ()
    if log is not None and log.st_size:
        parts += (log.st_size, log.st_mtime_ns)
    if progress is not None:
        parts += (progress.st_ino, progress.st_size, progress.st_mtime_ns)
    return parts


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
