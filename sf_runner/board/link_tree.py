"""A folder of symlinks that shows tensorboard exactly the chosen experiments, under short and unique names.

Tensorboard's `--logdir_spec` would do without links, but it takes neither `,` nor `:` in a path, knows only the slow
loader and breaks plugins; its maintainers advise links.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sf_runner.basics.errors import StorageError
from sf_runner.basics.paths import SUMMARY_DIR
from sf_runner.board.find import WORKSPACE_PREFIX, FoundExperiment

_MAX_COMPONENT_BYTES = 255


class Workspace:
    """A temporary directory of this process. Context manager; removed at its end, or, when the process was killed, by
    tensorboard's launcher or the next start of anybody's `sf_runner.tb`."""

    def __init__(self) -> None:
        try:
            self.root = Path(tempfile.mkdtemp(prefix=WORKSPACE_PREFIX))
            self._lock = _lock(self.root)
            self.runs.mkdir()
            self.tmp.mkdir()
        except OSError as exc:
            raise StorageError(f"no temporary directory can be made ({exc}); set TMPDIR to one that can") from exc

    @property
    def runs(self) -> Path:
        """What tensorboard is given as its `--logdir`."""
        return self.root / "runs"

    @property
    def tmp(self) -> Path:
        """Tensorboard's own temporary files."""
        return self.root / "tmp"

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)


def _lock(folder: Path) -> int | None:
    """Marks a workspace as in use for as long as this process lives; the file gets its name only once it is held."""
    fresh = folder / "lock.new"
    descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(OSError):  # a file system without locks: nobody will take it for abandoned either
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fresh.rename(folder / "lock")
        return descriptor
    os.close(descriptor)
    return None


def _is_abandoned(folder: Path) -> bool:
    with (folder / "lock").open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def sweep() -> int:
    """Remove workspaces whose process was killed; how many there were."""
    removed = 0
    for folder in Path(tempfile.gettempdir()).glob(f"{WORKSPACE_PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == os.getuid() and _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)
                removed += 1
    return removed


# ---- names ---------------------------------------------------------------------------------------------------


def event_dirs(experiments: Iterable[FoundExperiment]) -> dict[str, FoundExperiment]:
    """Folders to link, each with its experiment. What lies in another one of them is shown by that one's link."""
    owners = {path: experiment for experiment in experiments for path in experiment.event_dirs}
    top: dict[str, FoundExperiment] = {}
    last = "\0"
    for path in sorted(owners, key=lambda path: path.split("/")):
        if not path.startswith(f"{last}/"):
            top[path] = owners[path]
            last = path
    return top


def wanted_name(event_dir: str, experiment: FoundExperiment) -> str:
    """The name to show: the experiment's path without what says nothing.

    The summaries of policy 0 have the experiment's name, those of others end in `_p<policy>`. The folder
    `<base_name>_` between a run and its experiments is left out: their names hold it.
    """
    parts = experiment.path.split("/")
    if len(parts) >= 3 and parts[-2].endswith("_") and re.match(rf"\d+_{re.escape(parts[-2][:-1])}(_|\Z)", parts[-1]):
        del parts[-2]
    shown = "/".join(parts)
    rest = event_dir[len(experiment.path) + 1 :]
    rest = "" if rest == SUMMARY_DIR else rest.removeprefix(f"{SUMMARY_DIR}/")
    if rest in ("", "0"):
        return shown
    return f"{shown}_p{rest}" if rest.isdigit() else f"{shown}/{rest}"


def unique_name(wanted: Iterable[str], taken: Iterable[str]) -> str:
    """The first wanted name that is neither taken nor inside a taken one or around it, else a numbered one."""
    names = set(taken)
    around = {name[:position] for name in names for position, c in enumerate(name) if c == "/"}
    for name in _candidates([_printable(name) for name in wanted]):
        inside = any(name[:position] in names for position, c in enumerate(name) if c == "/")
        if name not in names and name not in around and not inside:
            return name
    raise AssertionError("unreachable")


def _candidates(wanted: list[str]) -> Iterator[str]:
    yield from wanted
    flat = wanted[-1].replace("/", "~")
    yield _short(flat)
    number = 2
    while True:
        yield _short(f"{flat}~{number}")
        number += 1


def _printable(name: str) -> str:
    """File names that are no text get `?`, which any loader and browser can show."""
    return name.encode("utf-8", "replace").decode()


def _short(component: str) -> str:
    if len(component.encode()) <= _MAX_COMPONENT_BYTES:
        return component
    digest = hashlib.sha256(component.encode()).hexdigest()[:8]
    return component.encode()[: _MAX_COMPONENT_BYTES - 9].decode(errors="ignore") + "-" + digest


# ---- links ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LinkChange:
    """Names that are shown now and were not before, and the other way round."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class LinkTree:
    """Keeps the symlinks in `folder`, which it owns, in line with what should be shown of the tree `root`.

    While everything is of one run, names go without it.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder = folder
        self._root = Path(os.path.abspath(root))  # noqa: PTH100  a symlink in it stays one: its target may change
        self._names: dict[str, str] = {}
        self._only_run: str | None = None

    @property
    def names(self) -> Mapping[str, str]:
        """Name shown, by event folder."""
        return self._names

    def sync(self, experiments: Iterable[FoundExperiment]) -> LinkChange:
        """Link what is new, unlink what is gone; names once given stay. StorageError when the disk refuses."""
        wanted = event_dirs(experiments)
        removed = [self._remove(path) for path in sorted(self._names.keys() - wanted.keys())]
        added = []
        if self._only_run is None and wanted:
            runs = {experiment.run for experiment in wanted.values()}
            self._only_run = runs.pop() if len(runs) == 1 else ""
        for path, experiment in wanted.items():
            if path not in self._names:
                full = wanted_name(path, experiment)
                short = full.removeprefix(f"{self._only_run}/")
                name = unique_name((short, full, path), self._names.values())
                self._link(name, self._root / path)
                self._names[path] = name
                added.append(name)
        return LinkChange(added=tuple(added), removed=tuple(removed))

    def _link(self, name: str, target: Path) -> None:
        link = self._folder / name
        try:
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
        except OSError as exc:
            raise StorageError(f"cannot link {link} to {target}: {exc.strerror}; set TMPDIR to another place") from exc

    def _remove(self, path: str) -> str:
        name = self._names.pop(path)
        link = self._folder / name
        link.unlink(missing_ok=True)
        for parent in link.parents:
            if parent == self._folder:
                break
            with contextlib.suppress(OSError):  # not empty
                parent.rmdir()
        return name
