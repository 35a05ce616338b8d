"""Messages about names nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def unknown_name(name: str, known: Sequence[str]) -> str:
    """One line that says what was meant most likely and what there is."""
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    return f"--env={name}: there is no such environment; {hint}known: {', '.join(known)}"
