"""UTF-8 for names and arguments, whatever the locale says. Standard library only.

Names, commands and files of a run are UTF-8. Python takes the locale's encoding for what the operating system is given
and gives, and with `LC_ALL=POSIX` or an ISO-8859-1 locale some of these names do not exist in it. Its UTF-8 mode can
only be chosen when the interpreter starts, so a command that finds itself without it starts its program once more, as
the same process. The environment stays as it is: experiments see the locale that the user has.
"""

from __future__ import annotations

import os
import sys

_STDIO = "sf_stdio"
"""Option of the interpreter that carries the encoding of the terminal over."""
_COMMANDS = frozenset({"sf-run", "sf-status", "sf-cancel", "sf-logs", "sf-tb", "sf-report"})


def restart_in_utf8() -> None:
    """Does not return where the locale has another encoding: the same program starts again as this process."""
    if sys.flags.utf8_mode or _is_utf8(sys.getfilesystemencoding()) or _STDIO in sys._xoptions or not sys.executable:
        return
    terminal = getattr(sys.stdout, "encoding", None) or "ascii"
    options = ["-X", "utf8", "-X", f"{_STDIO}={terminal}"]
    try:
        os.execv(sys.executable, [sys.executable, *options, *sys.orig_argv[1:]])
    except OSError:  # then what the locale cannot say is refused where it is met
        pass


def is_own_command() -> bool:
    """Whether this process is one of this package's commands, and not a program that uses the package."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return (spec is not None and spec.name.startswith("sf_runner.")) or os.path.basename(sys.argv[0]) in _COMMANDS  # noqa: PTH119


def terminal_encoding() -> str | None:
    """The encoding for standard output where it is not the one that Python has chosen."""
    name = sys._xoptions.get(_STDIO)
    return name if isinstance(name, str) else None


def _is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("-", "").replace("_", "") == "utf8"
