"""A terminal small enough to read: what a screen of so many columns and rows shows after certain bytes."""

from __future__ import annotations

import codecs
import re

from rich.cells import cell_len

_CSI = re.compile(r"\x1b\[([?>]?)([0-9;]*)([A-Za-z])")


class Vt:
    """Understands what the UI sends, and fails on what it does not know: nothing may be sent by accident."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.modes: set[int] = {7, 25}
        self.cells = self._blank()
        self.normal = self._blank()
        self.column = self.row = 0
        self.style = "0"
        self.styles = [["0"] * columns for _ in range(rows)]
        self._saved = (0, 0)
        self._rest = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def _blank(self) -> list[list[str]]:
        return [[" "] * self.columns for _ in range(self.rows)]

    def feed(self, data: bytes) -> Vt:
        text = self._rest + self._decoder.decode(data)
        self._rest = ""
        position = 0
        while position < len(text):
            char = text[position]
            if char == "\x1b":
                found = _CSI.match(text, position)
                if found is None:
                    if len(text) - position < 32:
                        self._rest = text[position:]
                        return self
                    raise AssertionError(f"unknown sequence {text[position : position + 12]!r}")
                self._csi(found[1], found[2], found[3])
                position = found.end()
                continue
            self._put(char)
            position += 1
        return self

    def text(self) -> list[str]:
        """The rows, without blanks at their ends."""
        return ["".join(row).rstrip() for row in self.cells]

    def find(self, text: str) -> int:
        """The row that holds a text."""
        return next(row for row, line in enumerate(self.text()) if text in line)

    @property
    def on_alternate(self) -> bool:
        return 1049 in self.modes

    def _put(self, char: str) -> None:
        if char == "\r":
            self.column = 0
        elif char == "\n":
            if self.row == self.rows - 1:
                self.cells = [*self.cells[1:], [" "] * self.columns]
            else:
                self.row += 1
        else:
            assert char.isprintable(), f"control character {char!r} was sent"
            width = cell_len(char)
            if self.column + width > self.columns:
                if 7 not in self.modes:
                    self.column = self.columns - width
                else:
                    self._put("\r")
                    self._put("\n")
            self.cells[self.row][self.column] = char
            self.styles[self.row][self.column] = self.style
            for extra in range(1, width):
                self.cells[self.row][self.column + extra] = ""
                self.styles[self.row][self.column + extra] = self.style
            self.column += width

    def _csi(self, private: str, numbers: str, final: str) -> None:
        values = [int(value or 0) for value in numbers.split(";")]
        if private == "?":
            for mode in values:
                self._mode(mode, final == "h")
        elif final == "H":
            self.row = min(max(values[0], 1), self.rows) - 1
            self.column = min(max(values[1] if len(values) > 1 else 1, 1), self.columns) - 1
        elif final == "K":
            start = min(self.column, self.columns - 1)
            self.cells[self.row][start:] = [" "] * (self.columns - start)
        elif final == "J":
            self.cells = self._blank()
        elif final == "m":
            self.style = numbers or "0"
        else:
            raise AssertionError(f"unknown sequence ESC [ {private}{numbers}{final}")

    def _mode(self, mode: int, on: bool) -> None:
        if mode == 1049 and on != self.on_alternate:
            if on:
                self.normal, self.cells = self.cells, self._blank()
                self._saved = (self.row, self.column)
            else:
                self.cells = self.normal
                self.row, self.column = self._saved
        (self.modes.add if on else self.modes.discard)(mode)
