"""Run names that change by themselves, because the description puts the time or a random part into them.

Every start of such a description is a new run, which continues nothing. Nobody who does that by accident would notice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone

_RECENT_S = 120
"""A description that imports large libraries makes its name a while before it is looked at."""
_CHANGING_CHARS = 4
"""Shorter parts (`v2`, `b64`) are changed by people."""
_WORD = re.compile(r"[A-Za-z0-9]+")
_MONTHS_AND_DAYS = re.compile("jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|mon|tue|wed|thu|fri|sat|sun|am|pm", re.I)
_SECONDS = ("%H%M%S", "%I%M%S")
_DAYS = ("%d%m%Y", "%d%m%y", "%d%Y", "%d%y")
_MINUTES = ("%d%H%M", *(f"{day}%H%M" for day in _DAYS), "%H%M%d", "%H%M%m%d", "%H%M%Y%m%d", "%H%M%y%m%d")


def holds_the_time(name: str, now: float) -> bool:
    """Whether the name holds the time of day of the last two minutes, or their unix time.

    The time of day counts with its seconds, or together with the day: four digits alone may mean anything.
    """
    digits = re.sub(r"\D", "", name)
    if len(digits) < 6:
        return False
    if any(now - _RECENT_S <= int(number[:10]) <= now + 1 for number in re.findall(r"\d{10,}", name)):
        return True
    start = datetime.fromtimestamp(now)
    for zone in (start, datetime.fromtimestamp(now, timezone.utc)):
        for age_s in range(_RECENT_S):
            moment = zone - timedelta(seconds=age_s)
            formats = (*_SECONDS, *_MINUTES) if age_s == 0 or moment.second == 59 else _SECONDS
            if any(moment.strftime(text) in digits for text in formats):
                return True
    return False


def may_change(name: str) -> bool:
    """Whether the name has a part that may be a date, a time or chance."""
    return any(map(_changes, _WORD.findall(name)))


def look_alikes(name: str, others: Iterable[str]) -> list[str]:
    """The names that differ from `name` in a part that looks like a date, a time or chance."""
    frame, parts = _split(name)
    found = []
    for other in others:
        other_frame, other_parts = _split(other)
        if frame == other_frame and any(
            one != another and min(len(one), len(another)) >= _CHANGING_CHARS
            for one, another in zip(parts, other_parts, strict=True)
        ):
            found.append(other)
    return found


def _split(name: str) -> tuple[str, list[str]]:
    """The name with a `#` for each part that may change, and these parts: words with digits in them, months and days,
    several in a row as one part."""
    frame, parts, end = "", [""], 0
    for word in _WORD.finditer(name):
        between, end = name[end : word.start()], word.end()
        if not _changes(word[0]):
            frame += between + word[0]
        elif frame.endswith("#"):
            parts[-1] += word[0]
        else:
            frame += between + "#"
            parts.append(word[0])
    return frame + name[end:], parts[1:]


def _changes(word: str) -> bool:
    return any(char.isdigit() for char in word) or _MONTHS_AND_DAYS.fullmatch(word) is not None
