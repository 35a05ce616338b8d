"""`python -m sf_runner.logs RUN JOB [--follow]`: the output of an experiment."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from sf_runner.basics.errors import StorageError, UsageError
from sf_runner.basics.paths import RunPaths
from sf_runner.basics.tail import lines_back, without_newline
from sf_runner.cli.common import add_run_arguments, jobs_of, run_paths
from sf_runner.cli.errors import run_command
from sf_runner.cli.parser import Parser, whole
from sf_runner.engine.snapshot import snapshot_of
from sf_runner.state.jobs import ACTIVE, Waiting
from sf_runner.store.follower import JournalFollower
from sf_runner.store.lock import is_held

_POLL_S = 0.25
_BLOCK = 1 << 16


def main(argv: Sequence[str] | None = None) -> int:
    """The command; `argv` without the program's name, by default the process's. Returns the exit code."""
    return run_command(_logs, argv)


def _logs(argv: Sequence[str]) -> int:
    parser = Parser("sf_runner.logs", "RUN JOB", "Show the output of an experiment.")
    add_run_arguments(parser)
    parser.add_argument("job", metavar="JOB", help="name, number or wildcard of the experiment")
    parser.flag(parser, "--attempt", whole(1), "an earlier attempt (default: the last)", metavar="K")
    parser.add_argument("--follow", "-f", action="store_true", help="go on until the experiment ends, through retries")
    parser.flag(parser, "--tail", whole(0), "only the last lines", aliases=["-n"], metavar="LINES")
    parser.add_argument("--path", action="store_true", help="print the path of the log instead")
    options = parser.parse_strictly(argv)
    paths = run_paths(options.run, options.train_dir)
    follower = JournalFollower(paths.journal)
    jobs = jobs_of(snapshot_of(follower, paths), [options.job])
    if len(jobs) > 1:
        raise UsageError(f"'{options.job}' matches {len(jobs)} experiments, e.g. {', '.join(jobs[:3])}; give one")
    job = jobs[0]
    if options.path:
        print(_log_path(paths, job, options.attempt))
    elif options.follow:
        _follow(follower, paths, job, options.attempt, options.tail)
    else:
        with _open(_log_path(paths, job, options.attempt)) as file:
            _seek_tail(file, options.tail)
            _copy(file)
    return 0


def _log_path(paths: RunPaths, job: str, attempt: int | None) -> Path:
    logs = paths.job(job).attempt_logs()
    if not logs:
        raise UsageError(f"'{job}' has not started yet; it has no log (--follow waits for it)")
    if attempt is None:
        return logs[-1]
    wanted = paths.job(job).attempt_log(attempt)
    if wanted not in logs:
        raise UsageError(f"--attempt={attempt}: '{job}' has the logs {', '.join(log.name for log in logs)}")
    return wanted


def _open(log: Path) -> BinaryIO:
    try:
        return log.open("rb")
    except OSError as exc:
        raise StorageError(f"cannot read {log}: {exc.strerror}") from exc


def _seek_tail(file: BinaryIO, lines: int | None) -> None:
    """Position the file so that `lines` lines are left, the last one with or without its line break; None: all."""
    if lines is None:
        return
    fd, end = file.fileno(), file.seek(0, os.SEEK_END)
    file.seek(lines_back(fd, without_newline(fd, end), lines) if lines else end)


def _copy(file: BinaryIO) -> None:
    while data := file.read(_BLOCK):
        sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _follow(follower: JournalFollower, paths: RunPaths, job: str, attempt: int | None, tail: int | None) -> None:
    """Show what is written until the experiment (with `attempt`: that attempt) ends or no runner is left to go on."""
    shown = attempt or max(1, follower.state.jobs[job].attempts)
    file: BinaryIO | None = None
    while True:
        # Looked at before the log is read: what an ended attempt wrote is there by then.
        if follower.catch_up():  # the run was removed and begun anew
            if file is not None:
                file.close()
            file, tail, shown = None, None, attempt or 1
        record = follower.state.jobs.get(job)
        if record is None:
            if not is_held(paths):
                raise UsageError(f"'{job}' is not in the run any more: it was begun anew without it")
            time.sleep(_POLL_S)
            continue
        over = record.attempts > shown or not isinstance(record.state, ACTIVE)
        waits = isinstance(record.state, Waiting) and (record.attempts < shown or attempt is None)
        log = paths.job(job).attempt_log(shown)
        if file is None and log.exists():
            file = _open(log)
            _seek_tail(file, tail)
        if file is not None:
            _copy(file)
        if over and record.attempts > shown and attempt is None:
            if file is not None:
                file.close()
            file, tail, shown = None, None, shown + 1
        elif over and not (waits and is_held(paths)):
            if file is None:
                raise UsageError(f"'{job}' has no log of attempt {shown}, and no runner is at work on it")
            return
        else:
            time.sleep(_POLL_S)


if __name__ == "__main__":
    sys.exit(main())
