"""Where trained policies are: in the package, in the user's own folder, or anywhere as a folder."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sf_algo.errors import CheckpointError
from sf_algo.gallery.card import CARD, Card
from sf_algo.own.names import did_you_mean

HOME_VARIABLE = "SF_ALGO_POLICIES"
"""Environment variable with the folder of the user's own trained policies."""
PACKAGED = Path(__file__).parent / "policies"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def own_folder() -> Path:
    """Of policies that were added or fetched on this machine."""
    chosen = os.environ.get(HOME_VARIABLE)
    return Path(chosen) if chosen else Path.home() / ".local" / "share" / "sf_algo" / "policies"


def shelf() -> dict[str, Path]:
    """Name -> folder of every policy at hand; the user's own go before those of the package."""
    found = {}
    for place in (PACKAGED, own_folder()):
        if place.is_dir():
            found.update({path.name: path for path in sorted(place.iterdir()) if (path / CARD).is_file()})
    return found


def find(name: str) -> Path:
    """The folder of a policy, which may also be given as a path. Raises CheckpointError."""
    known = shelf()
    if name in known:
        return known[name]
    if (Path(name) / CARD).is_file():
        return Path(name)
    meant = did_you_mean(name, list(known)) or ";"
    raise CheckpointError(
        f"there is no trained policy {name!r}{meant} python -m sf_algo.trained_policies lists those at hand and "
        "fetches others from the hub"
    )


def cards() -> list[Card]:
    """Of every policy at hand, by name."""
    return [Card.load(path) for _, path in sorted(shelf().items())]


def check_name(name: str) -> None:
    """Raises CheckpointError for one that is no plain folder name."""
    if not _NAME.fullmatch(name):
        raise CheckpointError(f"--name={name} must consist of letters, digits, '_', '-' and '.'")
