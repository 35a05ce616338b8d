"""How the commands end: one line for what a user can mend, a traceback only for a fault of ours."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from sf_runner.errors import SfRunnerError


def run_command(command: Callable[[Sequence[str]], int], argv: Sequence[str] | None) -> int:
    """Call `command` with the arguments; print an SfRunnerError as one line. The exit code."""
    try:
        return command(list(sys.argv[1:] if argv is None else argv))
    except SfRunnerError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return exc.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # e.g. `| head`
        sys.stderr.close()
        return 141
