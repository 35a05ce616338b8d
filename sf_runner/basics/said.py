"""Saying a thing once."""

from __future__ import annotations

from collections.abc import Hashable


class Said:
    """Remembers what was said. What is said has one or more parts, the general ones first: ("driver",), (kind, gpu)."""

    def __init__(self) -> None:
        self._said: set[tuple[Hashable, ...]] = set()

    def first(self, *what: Hashable) -> bool:
        """Whether it was not said before; it is from now on."""
        if what in self._said:
            return False
        self._said.add(what)
        return True

    def forget(self, *what: Hashable) -> bool:
        """Make everything that begins with these parts news again; whether any of it was said."""
        gone = {said for said in self._said if said[: len(what)] == what}
        self._said -= gone
        return bool(gone)
