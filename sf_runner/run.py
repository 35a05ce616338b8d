"""`python -m sf_runner.run --run=my.module`: run every experiment of a run description."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

from sf_runner.cli.errors import run_command
from sf_runner.cli.options import RunOptions, parse
from sf_runner.linux.guardian import run_guarded
from sf_runner.linux.lifeline import Lifeline
from sf_runner.linux.output import unblocked_output
from sf_runner.linux.terminal_guard import run_with_guard


def main(argv: Sequence[str] | None = None) -> int:
    """The command; `argv` without the program's name, by default the process's. Returns the exit code."""
    return run_command(_run, argv)


def _run(argv: Sequence[str]) -> int:
    options = parse(argv)
    if options.dry_run:
        return _dry_run(options, argv)
    if options.print_only:
        return _print_only(options)
    if not options.guarded:
        return run_with_guard(lambda _: run_command(lambda args: _execute(options, args, None), argv))
    # The guardian forks here, before anything big is imported: it stays tiny.
    return run_guarded(lambda lifeline: run_command(lambda args: _execute(options, args, lifeline), argv))


def _execute(options: RunOptions, argv: Sequence[str], lifeline: Lifeline | None) -> int:
    from sf_runner.cli.session import execute, prepare

    gc.disable()  # until the run begins: what is made before that is there to stay
    with unblocked_output():
        prepared = prepare(options, argv, run_name=lifeline.run_name if lifeline is not None else "")
        if lifeline is not None:
            lifeline.run_name = prepared.plan.run_name
        return execute(prepared, list(argv), lifeline)


def _dry_run(options: RunOptions, argv: Sequence[str]) -> int:
    from sf_runner.cli.dry_run import dry_run_lines
    from sf_runner.cli.session import prepare

    given = [argument for argument in argv if argument.split("=")[0] != "--dry_run"]
    for line in dry_run_lines(prepare(options, given)):
        print(line)
    return 0


def _print_only(options: RunOptions) -> int:
    """What would be submitted on standard output, byte for byte; what it is on standard error."""
    from sf_runner.cli.dry_run import preview_parts
    from sf_runner.cli.session import prepare

    for what, text in preview_parts(prepare(options)):
        print(f"# {what}", file=sys.stderr, flush=True)
        sys.stdout.write(text)
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
