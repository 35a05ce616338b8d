"""Text in cells: fitting, eliding, numbers, bars and sparklines. Pure."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from functools import lru_cache

from sf_runner.tui.theme import Glyphs

Span = tuple[str, str]
"""Text and the name of its style."""

Line = tuple[Span, ...]

_MANY = 8
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[PX^_].*?(?:\x1b\\|\Z)|[ -/]*[0-~])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")


def width_of(text: str) -> int:
    """Cells that the text takes on a terminal."""
    return len(text) if text.isascii() else _cell_len(text)


@lru_cache(maxsize=4096)
def _cell_len(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def clean(text: str) -> str:
    """One line of a program's output as it would look: no escape codes, only what follows the last carriage return,
    tabs as blanks."""
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    if "\r" in text:
        text = text.rstrip("\r").rpartition("\r")[2]
    if "\t" in text:
        text = text.expandtabs(8)
    if not text.isprintable():
        text = _CONTROLS.sub("", text)
        if not text.isprintable():  # unpaired surrogates, private use
            text = "".join(char if char.isprintable() else "?" for char in text)
    return text


def cut(text: str, width: int, ellipsis: str) -> str:
    """At most `width` cells; what is cut off is marked."""
    if width_of(text) <= width:
        return text
    return _head(text, width - len(ellipsis)) + ellipsis if width > len(ellipsis) else _head(text, max(0, width))


def fit(text: str, width: int, ellipsis: str, *, right: bool = False) -> str:
    """Exactly `width` cells."""
    text = cut(text, width, ellipsis)
    pad = " " * (width - width_of(text))
    return pad + text if right else text + pad


def elide(text: str, width: int, ellipsis: str) -> str:
    """Exactly `width` cells; cut in the middle, because names of experiments differ at both ends."""
    if width_of(text) <= width:
        return text + " " * (width - width_of(text))
    if width < 12:
        return fit(text, width, ellipsis)
    head = _head(text, max(3, width // 3))
    room = width - width_of(head) - len(ellipsis)
    tail = text[-room:]
    while width_of(tail) > room:
        tail = tail[1:]
    return head + ellipsis + tail + " " * (room - width_of(tail))


def _head(text: str, width: int) -> str:
    """The beginning, at most `width` cells."""
    head = text[:width]
    while width_of(head) > width:
        head = head[:-1]
    return head


def skip(text: str, cells: int) -> str:
    """Without its first cells."""
    return text[cells:] if text.isascii() else text[len(_head(text, cells)) :]


def clock(seconds: float) -> str:
    """Six cells at most: `0:07`, `12:31`, `3:04 h`, `2d 04h`, `120 d`."""
    whole = max(0, int(seconds))
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    if whole < 36_000:
        return f"{whole // 3600}:{whole % 3600 // 60:02} h"
    if whole < 86_400:
        return f"{whole // 3600}:{whole % 3600 // 60:02}h"
    days = whole // 86_400
    return f"{days}d {whole % 86_400 // 3600:02}h" if days < 100 else f"{days} d"


def count(value: float) -> str:
    """Five cells at most for anything below 10^15: `950`, `8.2k`, `12.5M`."""
    if value < 0:
        return "-" + count(-value)
    if value < 99.95:
        return f"{value:.2f}".removesuffix(".00") if value < 9.995 else f"{value:.1f}".removesuffix(".0")
    for suffix in ("", "k", "M", "G", "T"):
        if value < 999.5:
            return f"{value:.0f}{suffix}" if value >= 99.95 or not suffix else f"{value:.1f}{suffix}"
        value /= 1000
    return f"{value:.0e}".replace("e+0", "e")


def metric(value: float) -> str:
    """Eight cells at most, four digits that count where they fit."""
    if 1000 <= abs(value) < 1e6:
        return f"{value:.0f}"
    for digits in (4, 3, 2):
        shown = f"{value:.{digits}g}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")
        if len(shown) <= 8:
            return shown
    return f"{value:.0e}".replace("e+", "e")


def gigabytes(mb: float) -> str:
    """`41`, `2.1`, `0.3`: GB without the unit."""
    gb = mb / 1024
    return f"{gb:.0f}" if gb >= 9.95 else f"{gb:.1f}"


def bar(fraction: float, width: int, style: str, glyphs: Glyphs) -> Line:
    """A bar that is full at 1. It shows something as soon as there is something, and is full only at the end."""
    halves = min(round(fraction * 2 * width), 2 * width - 1) if fraction < 1 else 2 * width
    if fraction > 0:
        halves = max(halves, 1)
    full, half = divmod(halves, 2)
    done = glyphs.bar * full + (glyphs.half if half else "")
    return _without_empty((done, style), (glyphs.track * (width - len(done)), "track"))


def stacked_bar(parts: Sequence[tuple[float, str]], width: int, glyphs: Glyphs) -> Line:
    """Parts one after the other, each a fraction of the whole and a style; every part above 0 gets a cell."""
    cells = [max(1, math.floor(fraction * width)) if fraction > 0 else 0 for fraction, _ in parts]
    spare = width - sum(cells)
    if sum(fraction for fraction, _ in parts) >= 1 - 1e-9 and spare > 0 and cells:
        cells[cells.index(max(cells))] += spare
    while sum(cells) > width:
        cells[cells.index(max(cells))] -= 1
    spans = [(glyphs.bar * number, style) for number, (_, style) in zip(cells, parts, strict=True)]
    return _without_empty(*spans, (glyphs.track * (width - sum(cells)), "track"))


def _without_empty(*spans: Span) -> Line:
    return tuple(span for span in spans if span[0])


def sparkline(values: Sequence[float], width: int, glyphs: Glyphs) -> str:
    """The course of a value in at most `width` cells, the newest at the right."""
    points = resample(values, width)
    if not points:
        return ""
    low, high = _usual_range(points)
    levels = len(glyphs.spark)
    if high - low <= 1e-12 * max(abs(high), abs(low), 1e-300):
        return glyphs.spark[levels // 2 - 1] * len(points)
    scale = (levels - 1) / (high - low)
    return "".join(glyphs.spark[round((min(max(value, low), high) - low) * scale)] for value in points)


def _usual_range(points: Sequence[float]) -> tuple[float, float]:
    """Least and greatest value; of many, without the most extreme ones: the first values of a training are often far
    off, and would make all the rest look flat."""
    ordered = sorted(points)
    spare = max(1, len(ordered) // 16) if len(ordered) >= _MANY else 0
    low, high = ordered[spare], ordered[-1 - spare]
    return (low, high) if high > low else (ordered[0], ordered[-1])


def resample(values: Sequence[float], number: int) -> list[float]:
    """At most `number` points: means of neighbours."""
    size = len(values)
    if size <= number:
        return list(values)
    if number <= 0:
        return []
    edges = [index * size // number for index in range(number + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]


def wrap(line: Line, columns: int) -> list[Line]:
    """The line broken between words of its last span, which goes on under its own beginning."""
    if not line or line_width(line) <= columns:
        return [line]
    *head, (text, style) = line
    indent = line_width(tuple(head))
    if indent > columns // 2:  # a column of single words is no good: below it instead
        indent = 6
        parts = ["", *_broken(text.strip(), max(8, columns - indent))]
    else:
        parts = _broken(text, columns - indent)
    rest: list[Line] = [((" " * indent, ""), (part, style)) for part in parts[1:]]
    return [(*head, (parts[0], style)), *rest]


def _broken(text: str, width: int) -> list[str]:
    """Pieces of at most `width` cells, broken at blanks where there are any."""
    pieces = []
    while width_of(text) > width:
        head = _head(text, width)
        at = head.rfind(" ")
        if at > width // 3 and text[len(head)] != " ":
            head = head[:at]
        pieces.append(head.rstrip())
        text = text[len(head) :].lstrip()
    return [*pieces, text]


def plain(line: Line) -> str:
    """Its text alone."""
    return "".join(text for text, _ in line)


def line_width(line: Line) -> int:
    """Columns that the line takes on the screen."""
    return sum(width_of(text) for text, _ in line)
