"""Messages about names nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MOST_LISTED = 24


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """What was meant most likely, if anything is near."""
    by_folded = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.lower(), by_folded, n=1, cutoff=0.5)
    return by_folded[matches[0]] if matches else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ "; did you mean <the nearest>?", or nothing where no name is near."""
    nearest = nearest_name(name, known)
    return f"; did you mean {nearest}?" if nearest else ""


def unknown_env(name: str, known: Iterable[str]) -> str:
    """One line that says what was meant most likely and what there is."""
    names = list(known)
    listed = ", ".join(names[:_MOST_LISTED]) + (", ..." if len(names) > _MOST_LISTED else "")
    return f"--env={name}: there is no such environment{did_you_mean(name, names)} (known: {listed})"
