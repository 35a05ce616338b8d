"""Arrays that Slurm has although nothing of them is to run: it took a submission twice, or later than it was given up.
Pure. Their tasks would start nothing; they are ended so that they do not wait in the queue for that."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sf_runner.backends.slurm.answers import Place, Queue
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
