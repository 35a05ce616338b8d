"""Experiments anywhere under a directory, and those that masks select.

An experiment is a folder with `.summary/`, a job folder of a run, or a folder with tensorboard's event files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from sf_runner.basics.errors import UsageError, closest, did_you_mean
from sf_runner.basics.paths import RUNNER_DIR, SUMMARY_DIR, JobPaths

_SKIPPED = frozenset({"__pycache__", "wandb", "checkpoints", "milestones"})
_MAX_DEPTH = 32

WORKSPACE_PREFIX = "sf_runner_tb_"
"""Names of our own temporary directories, which would show everything once more."""

_WILDCARDS = "*?[]"


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundExperiment:
    """Paths are relative to the directory searched, with `/`.

    event_dirs: folders that hold event files, or may soon: `.summary` of an experiment that has not written yet is
        none of them.
    """

    path: str
    event_dirs: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def run(self) -> str:
        """The first folder of the path."""
        return self.path.split("/", 1)[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """What is under a directory. `folders`: every folder on the way to an experiment, and every run."""

    root: Path
    experiments: tuple[FoundExperiment, ...]
    folders: frozenset[str]
    root_has_events: bool = False


def scan(root: Path) -> Scan:
    """Look through `root`, symlinks included. Folders that cannot be read or vanish meanwhile count as empty.

    Raises UsageError when `root` is no directory.
    """
    if not root.is_dir():
        raise UsageError(f"--dir={root} is not a directory")
    walk = _Walk()
    top = _list(str(root))
    for name, is_link in top.folders.items():
        if not _is_skipped(name):
            walk.visit(root / name, name, None, (os.path.realpath(root),), is_link)
    experiments = tuple(FoundExperiment(path=path, event_dirs=tuple(dirs)) for path, dirs in sorted(walk.found.items()))
    folders = walk.runs.union(*(_ancestors(path) for path in walk.found))
    return Scan(root=root, experiments=experiments, folders=frozenset(folders), root_has_events=top.has_events)


def event_dirs_of(folder: Path) -> list[Path]:
    """Folders with event files in the experiment `folder`, itself included, by name."""
    walk = _Walk()
    walk.visit(folder, ".", ".", (), True)
    return [folder / path for path in sorted(walk.found.get(".", ()))]


class _Walk:
    """Visits folders. `found`: event folders per experiment; `runs`: folders of runs."""

    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {}
        self.runs: set[str] = set()

    def visit(self, path: Path, relative: str, owner: str | None, above: tuple[str, ...], is_link: bool) -> None:
        """`owner`: the experiment that everything below belongs to; `above`: real paths of the folders on the way."""
        real = os.path.realpath(path) if is_link else f"{above[-1]}/{path.name}"
        if real in above or len(above) > _MAX_DEPTH:
            return
        listing = _list(str(path))
        if owner is None and RUNNER_DIR in listing.folders:
            self.runs.add(relative)
        if owner is None and (SUMMARY_DIR in listing.folders or _is_job(path, listing)):
            owner = relative
            self.found.setdefault(owner, [])
        if listing.has_events:
            self.found.setdefault(owner or relative, []).append(relative)
        for name, link in listing.folders.items():
            if not _is_skipped(name) or (name == SUMMARY_DIR and owner is not None):
                self.visit(path / name, f"{relative}/{name}", owner, (*above, real), link)


@dataclass(frozen=True, slots=True)
class _Listing:
    """`folders`: name -> whether it is a symlink."""

    folders: dict[str, bool]
    has_events: bool


def _list(path: str) -> _Listing:
    folders: dict[str, bool] = {}
    has_events = False
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if is_event_file(entry.name):
                    has_events = True
                elif entry.is_dir():
                    folders[entry.name] = entry.is_symlink()
    except OSError:
        pass
    return _Listing(dict(sorted(folders.items())), has_events)


def is_event_file(name: str) -> bool:
    """Tensorboard's own criterion."""
    return "tfevents" in name


def _is_job(path: Path, listing: _Listing) -> bool:
    job = JobPaths(experiment_dir=path)
    return job.job_dir.name in listing.folders and bool(job.attempt_logs() or job.exit_record.exists())


def _is_skipped(name: str) -> bool:
    return name.startswith((".", "checkpoint_p", WORKSPACE_PREFIX)) or name in _SKIPPED


def _ancestors(path: str) -> Iterator[str]:
    """`a/b/c` -> `a`, `a/b`, `a/b/c`."""
    parts = path.split("/")
    return ("/".join(parts[: depth + 1]) for depth in range(len(parts)))


# ---- masks ---------------------------------------------------------------------------------------------------


def normalize(mask: str, root: Path) -> str:
    """A mask as people type it: with a closing `/`, or a path that a shell completed."""
    text = mask.rstrip("/") or mask
    for prefix in (str(root), os.path.normpath(root), os.path.abspath(root)):  # noqa: PTH100
        for start in (prefix, f"./{prefix}"):
            if text.startswith(f"{start}/") and start != ".":
                return text[len(start) + 1 :]
    return text.removeprefix("./")


def matches(mask: str, path: str) -> bool:
    """Whether `mask` is, or as a wildcard matches, the path or the name of this folder or of one above it."""
    return any(_matches_folder(mask, folder) for folder in _ancestors(path))


def _matches_folder(mask: str, folder: str) -> bool:
    name = folder.rsplit("/", 1)[-1]
    return mask in (folder, name) or fnmatchcase(folder, mask) or fnmatchcase(name, mask)


def select(found: Scan, masks: Sequence[str]) -> list[FoundExperiment]:
    """Experiments that a mask selects, by path, each once: one reached through a symlink too counts where it is."""
    chosen: dict[str, FoundExperiment] = {}
    for experiment in found.experiments:
        if any(matches(mask, experiment.path) for mask in masks):
            real = os.path.realpath(found.root / experiment.path)
            known = chosen.get(real)
            if known is None or _is_real(found.root, experiment.path):
                chosen[real] = experiment
    return sorted(chosen.values(), key=lambda experiment: experiment.path)


def _is_real(root: Path, path: str) -> bool:
    return os.path.realpath(root / path) == os.path.join(os.path.realpath(root), path)  # noqa: PTH118


def unmatched(found: Scan, masks: Iterable[str]) -> list[str]:
    """Masks that select no folder at all. One that selects a run without experiments is not among them."""
    return [mask for mask in masks if not any(_matches_folder(mask, folder) for folder in found.folders)]


def nearest(found: Scan, mask: str) -> str:
    """The end of a message about a mask that matches nothing: what it may have meant."""
    core = "".join(c for c in mask if c not in _WILDCARDS).strip("/")
    names = dict.fromkeys(name for folder in sorted(found.folders) for name in (folder, folder.rsplit("/", 1)[-1]))
    near = [name for name in names if core and core.lower() in name.lower()]
    guess = near[0] if near else closest(core, names)
    tops = [folder for folder in found.folders if "/" not in folder]
    return f" Did you mean '{guess}'?" if guess is not None else did_you_mean("", sorted(tops))
