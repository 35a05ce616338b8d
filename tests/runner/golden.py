"""Texts compared with files under tests/golden. UPDATE_GOLDEN=1 writes them anew, to be read before a commit."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "golden"


def assert_golden(name: str, text: str) -> None:
    path = FOLDER / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"differs from {path.name}; UPDATE_GOLDEN=1 takes it as it is now"
