"""`python -m sf_runner.run --run=my.module`: run every experiment of a run description."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sf_runner.cli.errors import run_command
from sf_runner.cli.options import parse


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(_run, argv)


def _run(argv: Sequence[str]) -> int:
    options = parse(argv)
    from sf_runner.cli.session import execute, prepare  # after --help, which should not wait for imports

    prepared = prepare(options)
    if options.dry_run:
        from sf_runner.cli.dry_run import dry_run_lines

        for line in dry_run_lines(prepared):
            print(line)
        return 0
    return execute(prepared, list(argv))


if __name__ == "__main__":
    sys.exit(main())
