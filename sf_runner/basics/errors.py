"""One exception tree: every message is one line that names the flag, file or job and the remedy."""

from __future__ import annotations

from collections.abc import Iterable


class SfRunnerError(Exception):
    """Root of every error a user can meet. The commands print `str(error)` and exit with `exit_code`."""

    exit_code = 1


class UsageError(SfRunnerError):
    """A command-line flag or argument that cannot be used. Nothing was started."""

    exit_code = 2


class NotHereError(UsageError):
    """What was asked for is in order, but this machine does not have it. `--dry_run` goes on and says so."""


class DescriptionError(SfRunnerError):
    """A run description that cannot become a plan. Nothing was started."""

    exit_code = 2


class StorageError(SfRunnerError):
    """A file of the run cannot be read or written: disk full, read-only directory, unknown format."""


class BackendError(SfRunnerError):
    """A backend (processes, Slurm, NGC) or the hardware under it cannot do what was asked."""


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, or None when nothing is near."""
    import difflib  # only when something went wrong

    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def did_you_mean(name: str, known: Iterable[str], *, max_listed: int = 8) -> str:
    """The end of a message about an unknown name: a space, then the nearest name, else the known ones."""
    names = list(dict.fromkeys(known))
    nearest = closest(name, names)
    if nearest is not None:
        return f" Did you mean '{nearest}'?"
    if not names:
        return ""
    listed = ", ".join(names[:max_listed])
    more = f" and {len(names) - max_listed} more" if len(names) > max_listed else ""
    return f" Known: {listed}{more}."


def one_line(text: object) -> str:
    """`text` on one line: line breaks and runs of blanks become single spaces."""
    return " ".join(str(text).split())
