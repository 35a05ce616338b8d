"""Where scenario files (.cfg) and maps (.wad) are looked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sf_algo.errors import EnvError, MissingDependencyError

SCENARIOS_DIR_VARIABLE = "SF_DOOM_SCENARIOS_DIR"
"""The user's own folder of scenario files, where --doom_scenarios_dir is not given."""

DOWNLOAD_COMMAND = "python -m sf_algo.envs.doom.download_scenarios"

OWN_SCENARIOS = Path(__file__).parent / "scenarios"


def cache_dir() -> Path:
    """Where the download command puts maps: below $XDG_CACHE_HOME, or ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    # the XDG specification tells to ignore relative paths
    base = Path(root) if os.path.isabs(root) else Path.home() / ".cache"  # noqa: PTH117
    return base / "sf_algo" / "doom"


def user_dir(flag_value: str | None) -> Path | None:
    """The user's folder from --doom_scenarios_dir or the environment. Raises EnvError if it is none."""
    value = flag_value or os.environ.get(SCENARIOS_DIR_VARIABLE)
    if not value:
        return None
    path = Path(value).expanduser().absolute()
    if not path.is_dir():
        source = "--doom_scenarios_dir" if flag_value else f"${SCENARIOS_DIR_VARIABLE}"
        raise EnvError(f"{source}={value} is not a folder; name the folder that holds your .cfg and .wad files")
    return path


def vizdoom_dir() -> Path:
    """The folder of the installed vizdoom package. Raises MissingDependencyError without one."""
    try:
        import vizdoom
    except ImportError as error:
        raise MissingDependencyError(
            f"doom_* environments need the vizdoom package: pip install vizdoom ({error})"
        ) from error
    return Path(vizdoom.__file__).parent


def find_cfg(name: str, own_dir: Path | None) -> Path | None:
    """A scenario file: the user's, else ours; None where there is none."""
    return _first_file(name, [own_dir, OWN_SCENARIOS])


def find_wad(name: str, own_dir: Path | None, *, is_downloaded: bool) -> Path:
    """A map: the user's, else vizdoom's (unless `is_downloaded`), else one in the cache.

    Raises MissingDependencyError with the command that fetches it.
    """
    shipped = None if is_downloaded else vizdoom_dir() / "scenarios"
    found = _first_file(name, [own_dir, shipped, cache_dir()])
    if found is not None:
        return found
    if is_downloaded:
        raise MissingDependencyError(f"map {name} is missing; fetch it once with: {DOWNLOAD_COMMAND}")
    raise MissingDependencyError(
        f"map {name} is neither in the vizdoom package nor in {own_dir or 'a folder of yours'}; "
        "name its folder with --doom_scenarios_dir"
    )


def _first_file(name: str, folders: Sequence[Path | None]) -> Path | None:
    for folder in folders:
        if folder is not None and (path := folder / name).is_file():
            return path
    return None
