"""A wrapper's signs of life, and those of another start of the same task. Standard library only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sf_runner.backends.slurm.task_records import RecordWriter, TaskHistory, read_history
from sf_runner.basics.clock import steady_s

BEAT_S = 15.0


class Beats:
    """begin: which start of the task this one is."""

    def __init__(self, path: Path, records: RecordWriter, begin: int) -> None:
        self._path = path
        self._records = records
        self._begin = begin
        self._history = TaskHistory()
        self._beaten_at = float("-inf")

    def is_replaced(self) -> bool:
        """Show that this wrapper lives, if it is time. Whether Slurm has started the task anew meanwhile: it does when
        it has lost sight of the node, which may go on by itself."""
        if steady_s() - self._beaten_at < BEAT_S:
            return False
        self._beaten_at = steady_s()
        self._records.beat()
        read_history(self._path, self._history)
        return self._history.begins > self._begin


class NoRecords(RecordWriter):
    """Of a wrapper that has been replaced: what it would say belongs to the other one."""

    def __init__(self) -> None:
        """Nothing is opened."""

    def beat(self) -> None:
        pass

    def write(self, **body: Any) -> None:
        pass
