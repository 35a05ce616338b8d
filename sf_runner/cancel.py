"""`python -m sf_runner.cancel RUN [JOB...]`: end experiments of a live run, or of one whose runner is gone."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sf_runner.basics.clock import SYSTEM_CLOCK
from sf_runner.basics.requests import NobodyAnswersError, Request, send, wait_for_reply
from sf_runner.cli.common import add_run_arguments, jobs_of, run_paths
from sf_runner.cli.errors import run_command
from sf_runner.cli.offline import cancel_offline
from sf_runner.cli.parser import Parser, duration_s
from sf_runner.engine.snapshot import read_run
from sf_runner.store.lock import is_held


def main(argv: Sequence[str] | None = None) -> int:
    """The command; `argv` without the program's name, by default the process's. Returns the exit code."""
    return run_command(_cancel, argv)


def _cancel(argv: Sequence[str]) -> int:
    parser = Parser(
        "sf_runner.cancel", "RUN [JOB ...]", "End experiments of a live run, or of one whose runner is gone."
    )
    add_run_arguments(parser)
    parser.add_argument(
        "jobs",
        metavar="JOB",
        nargs="*",
        help="name, number or wildcard of an experiment (default: every one not ended)",
    )
    parser.add_argument("--kill", action="store_true", help="KILL at once instead of TERM and a grace period")
    text = "time between TERM and KILL when no runner is at work on the run (default: 30)"
    parser.flag(parser, "--grace", duration_s, text, default=30.0, metavar="TIME")
    options = parser.parse_strictly(argv)
    paths = run_paths(options.run, options.train_dir)
    snapshot = read_run(paths)
    jobs = jobs_of(snapshot, options.jobs) if options.jobs else []
    if is_held(paths):
        request = Request(action="kill" if options.kill else "cancel", jobs=jobs)
        sent = send(paths.requests_dir, request)
        try:
            print(wait_for_reply(sent, timeout_s=15.0, is_there=lambda: is_held(paths)))
            return 0
        except NobodyAnswersError:
            pass  # the run has just ended, or its runner was killed
    print(cancel_offline(paths, jobs, grace_s=0.0 if options.kill else options.grace, now=SYSTEM_CLOCK.wall))
    return 0


if __name__ == "__main__":
    sys.exit(main())
