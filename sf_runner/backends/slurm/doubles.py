"""What Slurm has although nothing of it is to run: arrays that it took twice, or later than they were given up, and
tasks that it has queued again although their experiments are over. Pure.

They would start nothing. They are ended so that they do not wait in the queue for that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sf_runner.backends.slurm.answers import Place, Queue, compress
from sf_runner.backends.slurm.array import Array
from sf_runner.backends.slurm.client import marks_of
from sf_runner.backends.slurm.states import meaning


def doubles(queue: Queue, arrays: Iterable[Array], given_up: Collection[str]) -> dict[str, list[str]]:
    """Cluster -> arrays to be ended. given_up: marks of batches that are not to run at all."""
    found: set[Place] = set()
    for array in arrays:
        for mark in marks_of(array.paths):
            found |= queue.marks.get(mark, frozenset()) - {(array.cluster, array.array_id)}
    for mark in given_up:
        found |= queue.marks.get(mark, frozenset())
    ids: dict[str, list[str]] = {}
    for cluster, array_id in sorted(found):
        listing = queue.arrays[cluster, array_id]
        entries = [*listing.tasks.values(), *([listing.rest] if listing.rest is not None else [])]
        if any(meaning(entry.state).phase != "over" for entry in entries):
            ids.setdefault(cluster, []).append(array_id)
    return ids


def leftovers(queue: Queue, arrays: Iterable[Array]) -> dict[str, list[str]]:
    """Cluster -> tasks in the queue of which no experiment is to run any more."""
    ids: dict[str, list[str]] = {}
    for array in arrays:
        listing = queue.arrays.get((array.cluster, array.array_id))
        if listing is None or not array.is_in(listing):
            continue
        over = [
            index
            for index, entry in listing.tasks.items()
            if meaning(entry.state).phase == "queued" and index in array.tasks and not array.tasks[index].units
        ]
        if over:
            ids.setdefault(array.cluster, []).extend(compress(array.array_id, over))
    return ids
