"""Where programs are, so that PATH is not searched again for each of thousands of jobs. Standard library only."""

from __future__ import annotations

import os


class ProgramPaths:
    """Remembers what was found. Whoever sees that it no longer holds has it forgotten."""

    def __init__(self) -> None:
        self._known: dict[str, str | None] = {}

    def find(self, program: str) -> str | None:
        """The absolute path of a program on PATH; None where that is for the operating system to say."""
        if program not in self._known:
            self._known[program] = _search(program)
        return self._known[program]

    def forget(self, program: str) -> None:
        self._known.pop(program, None)


def _search(program: str) -> str | None:
    if "/" in program:
        return None
    for directory in os.get_exec_path():
        if not os.path.isabs(directory):  # noqa: PTH117  another program after a change of folder
            return None
        path = f"{directory}/{program}"
        if os.path.isfile(path) and os.access(path, os.X_OK):  # noqa: PTH113
            return path
    return None
