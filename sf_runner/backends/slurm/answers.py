"""What Slurm's commands print, and lists of indices as they write them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

SEPARATOR = "\x1f"
"""Between the columns of squeue: nothing that a file's name or a reason has in it."""
SQUEUE_FORMAT = SEPARATOR.join(("%F", "%K", "%T", "%r", "%N", "%o", "%k"))
_ID_LINE = re.compile(r"\s*(?:Submitted batch job )?(\d+)(?:;\S*| on cluster \S+)?\s*")
_COMMENT = re.compile(r"\sComment=(.*?)(?:\s+\w+=|\s*$)")

Place = tuple[str, str]
"""Cluster (empty: this machine's own) and array."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A task of an array as Slurm shows it. `state` is Slurm's word."""

    state: str
    reason: str = ""
    node: str = ""
    restarts: int | None = None
    """How often it was queued again; None: not told."""


@dataclass(kw_only=True)
class Listing:
    """The tasks of one array that were listed. `rest`: of all that were not, e.g. cancelled before they started."""

    tasks: dict[int, Entry] = field(default_factory=dict)
    rest: Entry | None = None
    throttle: int | None = None
    """Tasks side by side; None: not told."""
    comment: str = ""

    def find(self, index: int) -> Entry | None:
        return self.tasks.get(index, self.rest)

    def add(self, indices: str, entry: Entry) -> None:
        """Without any index it is what is left of an array after some of its tasks got entries of their own."""
        listed = list(expand(indices))
        if (throttle := indices.partition("%")[2]).isdigit():
            self.throttle = int(throttle)
        self.tasks.update(dict.fromkeys(listed, entry))
        if not listed:
            self.rest = entry


@dataclass(frozen=True, kw_only=True)
class Queue:
    """One answer of squeue for each cluster that answered. `asked_at`, `took_s`: when it was asked, how long it took.

    marks: the scripts and comments of all jobs, by which arrays are found again, and where they are."""

    asked_at: float
    took_s: float
    clusters: frozenset[str] = frozenset({""})
    arrays: Mapping[Place, Listing] = field(default_factory=dict)
    marks: Mapping[str, frozenset[Place]] = field(default_factory=dict)


def parse_queue(text: str, cluster: str, arrays: dict[Place, Listing], marks: dict[str, set[Place]]) -> None:
    """Add what squeue printed in `SQUEUE_FORMAT`."""
    for line in text.splitlines():
        columns = line.split(SEPARATOR)
        if len(columns) != 7 or not columns[0].strip().isdigit():
            continue  # a banner, the name of a cluster
        array, indices, state, reason, node, command, comment = (column.strip() for column in columns)
        place = (cluster, array)
        listing = arrays.setdefault(place, Listing(comment=comment))
        listing.add(indices, Entry(state=state, reason=reason, node=node))
        for mark in (command, comment):
            marks.setdefault(mark, set()).add(place)


def parse_jobs(text: str) -> Listing:
    """Of `scontrol show job --oneliner` for one array."""
    listing = Listing()
    for line in text.splitlines():
        found = dict(re.findall(r"(?:^|\s)(ArrayTaskId|JobState|Reason|NodeList|Restarts)=(\S*)", line))
        if "JobState" in found:
            restarts = int(found["Restarts"]) if found.get("Restarts", "").isdigit() else None
            node = found.get("NodeList", "")
            entry = Entry(state=found["JobState"], reason=found.get("Reason", ""), node=node, restarts=restarts)
            if match := _COMMENT.search(line):
                listing.comment = match[1]
            indices = found.get("ArrayTaskId", "")
            listing.add("" if indices.isdigit() and int(indices) >= 2**31 else indices, entry)
    return listing


def parse_accounting(text: str) -> Listing:
    """Of sacct's `JobID|State`. Of a task that was queued again the last line counts."""
    listing = Listing()
    for line in text.splitlines():
        name, bar, state = line.partition("|")
        if bar:
            listing.add(name.partition("_")[2], Entry(state=state.strip()))
    return listing


def parse_array_id(text: str) -> str:
    """The id that sbatch printed, whatever a site's wrapper of it printed before or after; empty: none."""
    found = [match[1] for line in text.splitlines() if (match := _ID_LINE.fullmatch(line))]
    return found[-1] if found else ""


def expand(indices: str) -> Iterator[int]:
    """`1,4-6%2` -> 1, 4, 5, 6; nothing for what is no list of indices."""
    for part in indices.partition("%")[0].strip("[]").split(","):
        span, _, step = part.partition(":")
        first, _, last = span.partition("-")
        if first.isdigit() and (last or first).isdigit():
            yield from range(int(first), int(last or first) + 1, int(step or 1))


def compress(array: str, indices: Iterable[int]) -> list[str]:
    """Ids for scancel: `17_[1-3,9]`, as few as fit on a command line."""
    spans: list[list[int]] = []
    for index in sorted(indices):
        if spans and index == spans[-1][1] + 1:
            spans[-1][1] = index
        else:
            spans.append([index, index])
    texts = [str(a) if a == b else f"{a}-{b}" for a, b in spans]
    return [f"{array}_[{','.join(texts[at : at + 200])}]" for at in range(0, len(texts), 200)]
