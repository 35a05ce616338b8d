"""How the commands begin and end: streams that can be printed to, one line for what a user can mend, a traceback only
for a fault of ours."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence

from sf_runner.basics.errors import SfRunnerError
from sf_runner.basics.utf8 import is_own_command, restart_in_utf8, terminal_encoding


def run_command(command: Callable[[Sequence[str]], int], argv: Sequence[str] | None) -> int:
    """Call `command` with the arguments; print an SfRunnerError as one line. The exit code.

    `argv` None: those of this process, which is first started again where its locale is not UTF-8.
    """
    if argv is None and is_own_command():
        restart_in_utf8()
    prepare_streams()
    try:
        code = command(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()  # a pipe without a reader is met here, not when the interpreter ends
        return code
    except SfRunnerError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return exc.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def prepare_streams() -> None:
    """Make sure that there is something to print to and that every character can be printed."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:  # closed (`>&-`): the next file opened, a journal perhaps, would take its place
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=terminal_encoding(), errors="backslashreplace")
