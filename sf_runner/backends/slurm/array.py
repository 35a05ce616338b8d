"""A submitted (or about to be submitted) array and its tasks, as the runner keeps them in mind."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sf_runner.backends.base import StopLevel
from sf_runner.backends.slurm.batches import BatchHeader, BatchPaths, TaskJob
from sf_runner.backends.slurm.client import Entry
from sf_runner.backends.slurm.fold import Unit
from sf_runner.backends.slurm.task_records import TaskHistory


@dataclass(frozen=True, kw_only=True)
class StopOrder:
    """`since`: of the steady clock."""

    level: StopLevel
    grace_s: float
    since: float

    @property
    def overdue_at(self) -> float:
        """When Slurm is to do what the wrapper did not."""
        return self.since + (0.0 if self.level == "kill" else self.grace_s) + 20.0


@dataclass(kw_only=True)
class Task:
    """One task of an array: the attempts in it that are not over."""

    index: int
    jobs: Mapping[str, TaskJob]
    units: dict[str, Unit] = field(default_factory=dict)
    history: TaskHistory = field(default_factory=TaskHistory)
    entry: Entry | None = None
    """As squeue last showed it; None: not at all."""
    read_after: int = 0
    """How many times squeue had been asked when its records were last found to have grown."""
    settled_at: float | None = None
    """Since when Slurm says that it is over."""
    accounting_state: str = ""
    """From accounting, or VANISHED."""
    orders: dict[str, StopOrder] = field(default_factory=dict)
    written_orders: dict[str, StopOrder] = field(default_factory=dict)
    enforced_at: float = 0.0
    released_begin: int = -1
    """How often it had begun when Slurm was last asked to end its hold."""
    dirty: bool = False
    """Something new is known that may end an attempt."""

    @property
    def all_stopping(self) -> bool:
        return bool(self.units) and all(unit.stopping for unit in self.units.values())

    def write_orders(self, paths: BatchPaths) -> bool:
        """Tell the wrapper; whether there was anything new. OSError when the disk is full."""
        if self.orders == self.written_orders:
            return False
        body = {job: {"level": order.level, "grace_s": order.grace_s} for job, order in self.orders.items()}
        path = paths.orders(self.index)
        path.parent.mkdir(exist_ok=True)
        tmp = path.with_suffix(".tmp")
        tmp.write_text(json.dumps(body))
        tmp.replace(path)
        self.written_orders = dict(self.orders)
        return True


@dataclass(kw_only=True)
class Array:
    """`array_id` is empty until it is known to be submitted."""

    paths: BatchPaths
    header: BatchHeader
    tasks: dict[int, Task]
    array_id: str = ""
    submitted_at: float = 0.0
    throttle: int = 0

    @property
    def live(self) -> bool:
        return any(task.units for task in self.tasks.values())


def make_array(paths: BatchPaths, header: BatchHeader, tasks: Sequence[Sequence[TaskJob]]) -> Array:
    """With no units yet."""
    made = {index: Task(index=index, jobs={job.job: job for job in jobs}) for index, jobs in enumerate(tasks)}
    return Array(paths=paths, header=header, tasks=made, throttle=header.throttle)
