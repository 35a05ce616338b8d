"""What every command does around its own work: help, notes, and one line for each fault."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from sf_algo.config.command_line import parse_command_line
from sf_algo.config.help import help_text
from sf_algo.config.program import NO_PROGRAM, Program
from sf_algo.config.resolve import Command, Invocation, configure
from sf_algo.errors import ConfigError, SfAlgoError

_INTERRUPTED = 130


class CommandParser(argparse.ArgumentParser):
    """For commands with words of their own: what is wrong with these is an error like any other."""

    def error(self, message: str) -> NoReturn:
        """Raises ConfigError."""
        raise ConfigError(f"{message}; see {self.prog} --help")


def run_command(
    command: Command,
    body: Callable[[Invocation], int],
    argv: Sequence[str] | None = None,
    program: Program = NO_PROGRAM,
) -> int:
    """Understands the command line and runs `body`; returns the exit code. `program` adds flags and environments.

    A fault of the user's making is printed as ``error: <one line>`` for each fault, without a traceback.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    typed = parse_command_line(words)

    def run() -> int:
        if typed.help_wanted:
            sys.stdout.write(help_text(command, typed.env, program=program))
            return 0
        invocation = configure(words, command, program)
        for note in invocation.notes:
            print(f"note: {note}", file=sys.stderr)
        return body(invocation)

    return with_one_line_faults(run)


def with_one_line_faults(run: Callable[[], int]) -> int:
    """Runs a command; returns its exit code, or that of the fault of the user's making that ended it."""
    try:
        return run()
    except SfAlgoError as error:
        return report_error(error)
    except KeyboardInterrupt:
        print("error: interrupted (KeyboardInterrupt)", file=sys.stderr)
        return _INTERRUPTED


def report_error(error: SfAlgoError) -> int:
    """Prints the faults of `error`, one line each, and returns the exit code that goes with them. What
    follows the first line of a message (a worker's traceback) is printed before it: the last line says what
    is wrong."""
    faults = error.faults if isinstance(error, ConfigError) else (str(error),)
    for fault in faults:
        first, _, details = fault.strip().partition("\n")
        if details:
            print(details.rstrip(), file=sys.stderr)
        print(f"error: {first}", file=sys.stderr)
    return error.exit_code
