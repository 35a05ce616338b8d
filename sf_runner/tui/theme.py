"""What the screen may use of the terminal: colours and characters; style names to escape codes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Colors = Literal["none", "standard", "256"]

_STYLES = {
    "": "",
    "dim": "dim",
    "bold": "bold",
    "title": "bold",
    "key": "bold cyan",
    "rule": "bright_black",
    "track": "dim bright_black",
    "head": "bold",
    "spark": "cyan",
    "running": "cyan",
    "starting": "blue",
    "queued": "dim",
    "ending": "yellow",
    "retrying": "yellow",
    "waiting": "dim",
    "succeeded": "green",
    "failed": "bold red",
    "cause": "red",
    "cancelled": "magenta",
    "warning": "bold yellow",
    "note": "yellow",
    "good": "green",
    "busy": "yellow",
    "full": "red",
}
"""Named colours, so that the user's palette, dark or light, decides how they look."""

_SELECTED = {
    "": "white", "dim": "grey78", "bold": "bold white", "title": "bold white", "key": "bold bright_cyan",
    "rule": "grey78", "track": "grey62", "head": "bold white", "spark": "#87ffff", "running": "#87ffff",
    "starting": "#afd7ff", "ending": "#ffff87", "retrying": "#ffff87", "waiting": "grey78", "queued": "grey78",
    "succeeded": "#afff87", "failed": "bold #ffafaf", "cause": "#ffafaf", "cancelled": "#ffafff",
    "warning": "bold #ffff87", "note": "#ffff87", "good": "#afff87", "busy": "#ffff87", "full": "#ffafaf",
}  # fmt: skip
"""The same on the dark blue of the selected row, whose background is ours and so are its colours."""

_SELECTED_BACKGROUND = "on #005f87"
SELECTED = "sel:"
"""Prefix of a style's name on the selected row."""


@dataclass(frozen=True, kw_only=True)
class Glyphs:
    """Characters one cell wide. `bar` and `track` are whole cells, `half` ends a bar in the middle of one."""

    bar: str
    half: str
    track: str
    spark: str
    rule: str
    cursor: str
    ellipsis: str
    arrows: str
    states: Mapping[str, str]
    degree: str
    dot: str
    sorted: str
    plus_minus: str


UNICODE = Glyphs(
    bar="━", half="╸", track="━", spark="▁▂▃▄▅▆▇█", rule="─", cursor="▌", ellipsis="…", arrows="↑↓",
    states={
        "running": "▶", "starting": "▷", "ending": "◼", "retrying": "↻", "waiting": "·", "queued": "·",
        "succeeded": "✓", "failed": "✗", "cancelled": "–",
    },
    degree="°", dot="·", sorted="▾", plus_minus="±",
)  # fmt: skip
ASCII = Glyphs(
    bar="#", half="-", track=".", spark="_.-~=+*#", rule="-", cursor=">", ellipsis="~", arrows="up/down",
    states={
        "running": ">", "starting": ">", "ending": "!", "retrying": "%", "waiting": ".", "queued": ".",
        "succeeded": "+", "failed": "x", "cancelled": "-",
    },
    degree="", dot="-", sorted="*", plus_minus="+-",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Theme:
    """`codes` maps a style's name to what stands between ESC [ and m; empty: nothing."""

    glyphs: Glyphs
    codes: Mapping[str, str]

    @classmethod
    def make(cls, colors: Colors, *, unicode: bool) -> Theme:
        return cls(glyphs=UNICODE if unicode else ASCII, codes=_codes(colors))


def choose_theme(environ: Mapping[str, str] | None = None, encoding: str = "utf-8") -> Theme:
    """By NO_COLOR, TERM, COLORTERM, the locale, and the encoding of standard output."""
    env = os.environ if environ is None else environ
    return Theme.make(_colors(env), unicode=_has_unicode(env, encoding))


def is_dumb(environ: Mapping[str, str] | None = None) -> bool:
    """Whether the terminal cannot move its cursor."""
    return (os.environ if environ is None else environ).get("TERM", "") in ("", "dumb", "unknown")


def _colors(env: Mapping[str, str]) -> Colors:
    term = env.get("TERM", "")
    if env.get("NO_COLOR") or term.startswith("vt"):
        return "none"
    if "256" in term or env.get("COLORTERM") or term in ("xterm-kitty", "alacritty", "foot", "xterm-ghostty"):
        return "256"
    return "standard"


def _has_unicode(env: Mapping[str, str], encoding: str) -> bool:
    if not encoding.lower().replace("-", "").startswith("utf"):
        return False
    if env.get("TERM", "") == "linux" or env.get("TERM", "").startswith("vt"):
        return False  # the kernel's console has few characters beyond Latin
    # Python itself turns the locale C into C.UTF-8 and says so in LC_CTYPE, so that alone says nothing. A locale that
    # was not set at all (containers) says nothing either.
    named = env.get("LC_ALL") or (env.get("LC_CTYPE") if env.get("LC_CTYPE") != "C.UTF-8" else "") or env.get("LANG")
    return named not in ("C", "POSIX")


def _codes(colors: Colors) -> dict[str, str]:
    from rich.color import ColorSystem
    from rich.style import Style

    system = ColorSystem.EIGHT_BIT if colors == "256" else ColorSystem.STANDARD

    def code(definition: str) -> str:
        style = Style.parse(definition)
        if colors == "none":
            style = style.without_color
        rendered = style.render("|", color_system=system)
        return rendered.partition("|")[0].removeprefix("\x1b[").removesuffix("m")

    codes = {name: code(definition) for name, definition in _STYLES.items()}
    if colors == "none":
        # Without colours the tracks of bars would look like the bars.
        codes |= {"track": "2", "rule": "2"}
    for name, definition in _SELECTED.items():
        if colors == "256":
            codes[SELECTED + name] = code(f"{definition} {_SELECTED_BACKGROUND}")
        else:
            codes[SELECTED + name] = "7;2" if name == "track" else "7"
    return codes
