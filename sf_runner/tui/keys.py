"""From the bytes a terminal sends to names of keys. Pure."""

from __future__ import annotations

import codecs
import re

PASTE = "paste:"
"""A key that starts with this is pasted text, which must never act as commands."""

_ESC = "\x1b"
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O[ -~]|\[\[[A-E])")
_BEGINNING = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|O|\[\[)?\Z")
_PASTE_BEGIN, _PASTE_END = "\x1b[200~", "\x1b[201~"
_MAX_PASTE = 4096

_NAMED = {
    "[A": "up", "[B": "down", "[C": "right", "[D": "left", "[H": "home", "[F": "end",
    "OA": "up", "OB": "down", "OC": "right", "OD": "left", "OH": "home", "OF": "end", "OM": "enter",
    "[1~": "home", "[2~": "insert", "[3~": "delete", "[4~": "end", "[5~": "pageup", "[6~": "pagedown",
    "[7~": "home", "[8~": "end", "[Z": "backtab", "OP": "f1", "[11~": "f1", "[[A": "f1",
}  # fmt: skip
_CONTROL = {"\r": "enter", "\n": "enter", "\t": "tab", "\x7f": "backspace", "\x08": "backspace", " ": "space"}
_MODIFIED = re.compile(r"\[1;\d+([A-DHF])\Z|\[([5-6])(?:;\d+)~\Z")


class KeyParser:
    """Takes bytes as they come, in any pieces. Unknown sequences are swallowed whole."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        self._pending = ""
        self._paste: str | None = None

    @property
    def waiting(self) -> bool:
        """Whether an escape sequence has begun, or the Escape key was pressed: `flush` when nothing follows soon."""
        return bool(self._pending) and self._paste is None

    def feed(self, data: bytes) -> list[str]:
        """Keys by name: `a`, `space`, `enter`, `esc`, `up`, `pagedown`, `ctrl-l`, `paste:<text>`."""
        text = self._pending + self._decoder.decode(data)
        self._pending = ""
        keys: list[str] = []
        while text:
            text = self._in_paste(text, keys) if self._paste is not None else self._next(text, keys)
        return keys

    def flush(self) -> list[str]:
        """What began and did not go on: the Escape key by itself, or a torn sequence, which is dropped."""
        if not self.waiting:
            return []
        pending, self._pending = self._pending, ""
        return ["esc"] if pending == _ESC else []

    def _next(self, text: str, keys: list[str]) -> str:
        """Take one key off the front; what is left."""
        char = text[0]
        if char != _ESC:
            keys.append(_CONTROL.get(char) or (char if char.isprintable() else _control_name(char)))
            return text[1:]
        found = _SEQUENCE.match(text)
        if found is None:
            if _BEGINNING.match(text):
                self._pending = text
                return ""
            keys.append("esc")  # Escape, then another key; also what terminals send for Alt and a key
            return text[1:]
        if found[0] == _PASTE_BEGIN:
            self._paste = ""
        elif name := _sequence_name(found[0][1:]):
            keys.append(name)
        return text[found.end() :]

    def _in_paste(self, text: str, keys: list[str]) -> str:
        assert self._paste is not None
        text = self._paste + text
        end = text.find(_PASTE_END)
        if end < 0:
            self._paste = text[-_MAX_PASTE:] if len(text) > 2 * _MAX_PASTE else text
            return ""
        keys.append(PASTE + text[:end][:_MAX_PASTE])
        self._paste = None
        return text[end + len(_PASTE_END) :]


def _sequence_name(body: str) -> str:
    name = _NAMED.get(body)
    if name is None and (modified := _MODIFIED.match(body)):  # with Shift, Alt or Ctrl held
        name = _NAMED.get(f"[{modified[1]}" if modified[1] else f"[{modified[2]}~")
    return name or ""


def _control_name(char: str) -> str:
    code = ord(char)
    return f"ctrl-{chr(code + 96)}" if 0 < code < 27 else "unknown"
