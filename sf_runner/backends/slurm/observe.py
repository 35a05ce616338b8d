"""What became of attempts by their wrappers' words alone: for looking at a run at which no runner is at work."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from sf_runner.backends.base import Known, Report
from sf_runner.backends.slurm.array import Array, make_array
from sf_runner.backends.slurm.batches import list_batches, read_batch
from sf_runner.backends.slurm.fold import Observation, Unit, advance
from sf_runner.backends.slurm.task_records import read_history


class Observer:
    """Reads, never writes, never asks Slurm."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._arrays: dict[str, Array] = {}

    def look(self, known: Sequence[Known]) -> list[Report]:
        """What is to be reported of these attempts, from the state that the journal is in."""
        self._read_batches()
        wanted = {item.job: item for item in known}
        reports: list[Report] = []
        for _, array in sorted(self._arrays.items(), key=lambda item: int(item[0]), reverse=True):
            for task in array.tasks.values():
                for job in task.jobs.values():
                    item = wanted.get(job.job)
                    if item is None or job.attempt > item.attempt:
                        continue
                    del wanted[job.job]
                    read_history(array.paths.records(task.index), task.history)
                    unit = Unit(job=job.job, attempt=item.attempt, started=item.handle is not None)
                    handle = {"slurm": f"{array.array_id}_{task.index}", "batch": array.paths.name}
                    seen = Observation(task=task.history, slurm=None, settled=False, now=time.time(), handle=handle)
                    over = False
                    while not over:
                        some, over = advance(unit, seen)
                        reports += some
                        over = over or not some
        return reports

    def _read_batches(self) -> None:
        for paths in list_batches(self._folder):
            if paths.name not in self._arrays and not paths.is_abandoned():
                try:
                    self._arrays[paths.name] = make_array(paths, *read_batch(paths))
                except (OSError, ValueError):
                    continue
                self._arrays[paths.name].array_id = paths.array_id()
