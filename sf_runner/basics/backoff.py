"""Waiting ever longer while something fails."""

from __future__ import annotations

_MAX_DOUBLINGS = 30


def doubled(first_s: float, failures: int, limit_s: float) -> float:
    """Seconds to wait after so many earlier failures in a row: `first_s`, doubled for each, at most `limit_s`."""
    return min(first_s * 2.0 ** min(failures, _MAX_DOUBLINGS), limit_s)
