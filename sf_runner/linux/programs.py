"""Where programs are, so that PATH is not searched again for each of thousands of jobs. Standard library only."""

from __future__ import annotations

import os


def find_program(program: str) -> str | None:
    """The absolute path of a program on PATH; None where that is for the operating system to say."""
    if "/" in program:
        return None
    for directory in os.get_exec_path():
        if not os.path.isabs(directory):  # noqa: PTH117  another program after a change of folder
            return None
        path = f"{directory}/{program}"
        if os.path.isfile(path) and os.access(path, os.X_OK):  # noqa: PTH113
            return path
    return None
