"""From lines to the bytes that turn what the terminal shows into them. Only what differs is sent."""

from __future__ import annotations

from collections.abc import Sequence

from sf_runner.tui.text import Line, Span, width_of
from sf_runner.tui.theme import Theme

_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"
"""Synchronized output: a terminal that knows it shows the whole change at once, others ignore it."""


class Painter:
    """Remembers what the terminal shows. Lines must not be wider than the terminal."""

    def __init__(self, theme: Theme) -> None:
        self._theme = theme
        self._shown: list[Line | None] = []

    def forget(self) -> None:
        """The terminal was cleared, resized or written to by somebody else: the next frame is sent whole."""
        self._shown = []

    def paint(self, lines: Sequence[Line], columns: int) -> bytes:
        """What to send so that the terminal, `columns` wide, shows `lines` from its first row on; empty when it does
        already."""
        if len(self._shown) != len(lines):
            self._shown = [None] * len(lines)
        pieces: list[str] = []
        for row, (old, new) in enumerate(zip(self._shown, lines, strict=True)):
            if old != new:
                pieces.append(self._change(row + 1, old, new, columns))
        if not pieces:
            return b""
        self._shown = list(lines)
        return "".join([_BEGIN, *pieces, "\x1b[0m", _END]).encode("utf-8", "replace")

    def _change(self, row: int, old: Line | None, new: Line, columns: int) -> str:
        # Erasing behind a line that fills its row would erase its last cell, where the cursor still stands.
        erase = "" if _width(new) >= columns else "\x1b[0m\x1b[K"
        if old is None:
            return f"\x1b[{row};1H{self._styled(new)}{erase}"
        first = 0
        for a, b in zip(old, new, strict=False):
            if a != b:
                break
            first += 1
        end_old, end_new = len(old), len(new)
        while end_old > first and end_new > first and old[end_old - 1] == new[end_new - 1]:
            end_old -= 1
            end_new -= 1
        column = 1 + _width(new[:first])
        if _width(old[first:end_old]) == _width(new[first:end_new]):
            return f"\x1b[{row};{column}H{self._styled(new[first:end_new])}"
        return f"\x1b[{row};{column}H{self._styled(new[first:])}{erase}"

    def _styled(self, spans: Sequence[Span]) -> str:
        codes = self._theme.codes
        pieces = []
        last = None
        for text, style in spans:
            if style != last:
                code = codes[style]
                pieces.append(f"\x1b[0;{code}m" if code else "\x1b[0m")
                last = style
            pieces.append(text)
        return "".join(pieces)


def _width(spans: Sequence[Span]) -> int:
    return sum(width_of(text) for text, _ in spans)
