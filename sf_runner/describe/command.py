"""Commands as argument lists: splitting text, one argument for each parameter, choosing the interpreter."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath

from sf_runner.basics.errors import DescriptionError
from sf_runner.describe.values import ABSENT, BARE, Presence, value_text

_MAX_ARGUMENT_BYTES = 128 * 1024 - 1
"""Linux refuses to start a program with a longer single argument (MAX_ARG_STRLEN, the final NUL included)."""

_QUOTED_OR_ESCAPED = re.compile(r"""'[^']*'|"(?:\\.|[^"\\])*"|\\.""", re.DOTALL)
_SHELL_OPERATORS = frozenset({"&&", "||", "|", ";", "&", ">", ">>", "<", "2>", "2>>", "2>&1", "&>"})
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_INTERPRETERS = frozenset({"python", "python3"})


def split_command(cmd: str | Sequence[str]) -> tuple[str, ...]:
    """A command as arguments. A list is taken as it is.

    Text is split with the quoting rules of a POSIX shell, a backslash at the end of a line continuing it;
    nothing in it is expanded.

    Raises:
        DescriptionError: nothing to run, an open quote, or shell syntax that no shell is there to understand.
    """
    if isinstance(cmd, str):
        argv = _split_text(cmd)
    elif isinstance(cmd, Sequence) and all(isinstance(part, (str, PurePath)) for part in cmd):
        argv = tuple(value_text(part) for part in cmd)
    else:
        raise DescriptionError(f"cmd must be text or a list of texts, not {_kind(cmd)}")
    if not argv or not argv[0]:
        raise DescriptionError("cmd is empty; give the program to run")
    for argument in argv:
        check_argument(argument, "cmd")
    return argv


def _split_text(cmd: str) -> tuple[str, ...]:
    cmd = _QUOTED_OR_ESCAPED.sub(lambda m: "" if m[0] == "\\\n" else m[0], cmd.replace("\\\r\n", "\\\n"))
    bare = _QUOTED_OR_ESCAPED.sub("Q", cmd).split()
    operators = [token for token in bare if token in _SHELL_OPERATORS]
    if operators:
        raise DescriptionError(
            f"cmd contains the shell operator {operators[0]!r} but no shell runs it; "
            "quote it, or give cmd=['bash', '-c', '...']"
        )
    try:
        argv = tuple(shlex.split(cmd))
    except ValueError as error:
        raise DescriptionError(f"cmd cannot be split into arguments ({error}): {cmd!r}") from None
    if argv and _ASSIGNMENT.match(argv[0]):
        raise DescriptionError(f"cmd starts with {argv[0]!r}; give environment variables as env_vars={{...}}")
    return argv


def parameter_arguments(params: Mapping[str, object], prefix: str, texts: Callable[[object], str]) -> list[str]:
    """The argument for each parameter, in order; empty for one that is ABSENT.

    Raises:
        DescriptionError: a value cannot become an argument.
    """
    arguments = []
    for name, value in params.items():
        try:
            flag = f"{prefix}{name}"
            argument = "" if value is ABSENT else flag if value is BARE else f"{flag}={texts(value)}"
            check_argument(argument, "its argument")
        except DescriptionError as error:
            raise DescriptionError(f"parameter '{name}': {error}") from None
        arguments.append(argument)
    return arguments


def check_argument(argument: str, what: str) -> None:
    """Refuse text that no program can be given as an argument or environment variable.

    Raises:
        DescriptionError: a NUL character, text that is not valid Unicode, or more than 128 KiB.
    """
    if "\0" in argument:
        raise DescriptionError(f"{what} contains a NUL character: {argument[:80]!r}")
    if argument.isascii():
        size = len(argument)
    else:
        try:
            size = len(argument.encode("utf-8", "surrogateescape"))
        except UnicodeEncodeError:
            raise DescriptionError(f"{what} is not valid Unicode: {argument[:80]!r}") from None
    if size > _MAX_ARGUMENT_BYTES:
        raise DescriptionError(f"{what} is {size} bytes long; an argument can have {_MAX_ARGUMENT_BYTES}. Pass a file.")


def environment(env_vars: Mapping[str, object] | None) -> dict[str, str]:
    """Environment variables as text.

    Raises:
        DescriptionError: not a mapping, or a name or value that cannot be in an environment.
    """
    if env_vars is None:
        return {}
    if not isinstance(env_vars, Mapping):
        raise DescriptionError(f"env_vars must be a dict, not {_kind(env_vars)}")
    env: dict[str, str] = {}
    for key, value in env_vars.items():
        name = str(key)
        if not name or "=" in name:
            raise DescriptionError(f"env_vars: {name!r} is no name of an environment variable")
        if isinstance(value, Presence):
            raise DescriptionError(
                f"env_vars[{name!r}]: {value} is for parameters; leave the variable out, or give text"
            )
        text = value_text(value)
        check_argument(name, "env_vars: a name")
        check_argument(text, f"env_vars[{name!r}]")
        env[name] = text
    return env


def runtime_argv(argv: Sequence[str], interpreter: str = sys.executable) -> list[str]:
    """What is really started: a leading `python` or `python3` becomes the interpreter of the runner."""
    if argv and argv[0] in _INTERPRETERS and interpreter:
        return [interpreter, *argv[1:]]
    return list(argv)


def _kind(value: object) -> str:
    return type(value).__name__
