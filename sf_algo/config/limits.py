"""Numbers with a meaning of their own."""

from __future__ import annotations

NO_LIMIT = 10_000_000_000
"""So many frames, episodes or seconds that it means: until told to stop."""
