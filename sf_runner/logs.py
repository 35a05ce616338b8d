"""`python -m sf_runner.logs RUN JOB [--follow]`: the output of an experiment."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from sf_runner.cli.common import add_run_arguments, jobs_of, run_paths
from sf_runner.cli.errors import run_command
from sf_runner.cli.options import Parser, whole
from sf_runner.errors import UsageError
from sf_runner.job_state import ACTIVE
from sf_runner.snapshot import RunSnapshot, read_run

_POLL_S = 0.2
_LOOK_AT_RUN_S = 1.0


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(_logs, argv)


def _logs(argv: Sequence[str]) -> int:
    parser = Parser(prog="python -m sf_runner.logs", description=__doc__.split(": ", 1)[1], allow_abbrev=False)
    add_run_arguments(parser)
    parser.add_argument("job", metavar="JOB", help="name, number or wildcard of the experiment")
    parser.add_argument("--attempt", type=whole(1), metavar="K", help="an earlier attempt (default: the last)")
    parser.add_argument("--follow", "-f", action="store_true", help="go on until the experiment ends")
    parser.add_argument("--tail", "-n", type=whole(0), metavar="LINES", help="only the last lines")
    parser.add_argument("--path", action="store_true", help="print the path of the log instead")
    options = parser.parse_strictly(argv)
    snapshot = read_run(run_paths(options.run, options.train_dir))
    jobs = jobs_of(snapshot, [options.job])
    if len(jobs) > 1:
        raise UsageError(f"'{options.job}' matches {len(jobs)} experiments, e.g. {', '.join(jobs[:3])}; give one")
    log = _log_path(snapshot, jobs[0], options.attempt)
    if options.path:
        print(log)
        return 0
    with log.open("rb") as file:
        if options.tail is not None:
            _seek_tail(file, options.tail)
        _copy(file)
        if options.follow:
            _follow(file, snapshot, jobs[0])
    return 0


def _log_path(snapshot: RunSnapshot, job: str, attempt: int | None) -> Path:
    logs = snapshot.paths.job(job).attempt_logs()
    if not logs:
        raise UsageError(f"'{job}' has not started yet; it has no log")
    if attempt is None:
        return logs[-1]
    wanted = snapshot.paths.job(job).attempt_log(attempt)
    if wanted not in logs:
        raise UsageError(f"--attempt={attempt}: '{job}' has the logs {', '.join(log.name for log in logs)}")
    return wanted


def _seek_tail(file: BinaryIO, lines: int) -> None:
    """Position the file so that `lines` lines are left."""
    position, found, block = file.seek(0, 2), -1, 1 << 16
    while position > 0 and found < lines:
        step = min(block, position)
        position -= step
        file.seek(position)
        data = file.read(step)
        for index in range(len(data) - 1, -1, -1):
            if data[index : index + 1] == b"\n":
                found += 1
                if found == lines:
                    file.seek(position + index + 1)
                    return
    file.seek(0)


def _copy(file: BinaryIO) -> None:
    while data := file.read(1 << 16):
        sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _follow(file: BinaryIO, snapshot: RunSnapshot, job: str) -> None:
    looked_at = 0.0
    while True:
        _copy(file)
        if time.monotonic() - looked_at >= _LOOK_AT_RUN_S:
            looked_at = time.monotonic()
            if not isinstance(read_run(snapshot.paths).state.jobs[job].state, ACTIVE):
                _copy(file)
                return
        time.sleep(_POLL_S)


if __name__ == "__main__":
    sys.exit(main())
