"""The page on the architecture names files that exist, and has a place for every room."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "architecture.md"
PACKAGES = ("sf_runner", "sf_algo")

SECTION = re.compile(r"^## (.+)$", re.MULTILINE)


def sections() -> dict[str, str]:
    """Heading -> text below it."""
    parts = SECTION.split(PAGE.read_text(encoding="utf-8"))
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def named_paths(text: str) -> list[str]:
    """What stands between backticks and looks like a file or a folder of the repository."""
    return re.findall(r"`((?:sf_runner|sf_algo|tests|docs|benchmarks|run_descriptions)/[\w./-]*)", text)


def test_every_named_file_exists() -> None:
    found = named_paths(PAGE.read_text(encoding="utf-8"))
    assert len(found) > 40
    assert [name for name in found if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("walk", ["Walk 1", "Walk 2"])
def test_each_walk_names_the_files_it_passes(walk: str) -> None:
    text = next(text for heading, text in sections().items() if heading.startswith(walk))
    assert len(set(named_paths(text))) > 15


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_stands_in_the_table_of_its_package(package: str) -> None:
    text = next(text for heading, text in sections().items() if heading.startswith(f"{package}: "))
    named = {
        name.rstrip("/") for cell in re.findall(r"^\|[^|]*\|([^|]*)\|", text, re.MULTILINE) for name in cell.split("`")
    }
    rooms = {
        path.name
        for path in (ROOT / package).iterdir()
        if (path.is_dir() and (path / "__init__.py").exists()) or (path.suffix == ".py" and path.name != "__init__.py")
    }
    assert sorted(rooms - named) == []
