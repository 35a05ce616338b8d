"""A submitted (or about to be submitted) array and its tasks, as the runner keeps them in mind."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

from sf_runner.backends.base import StopLevel
from sf_runner.backends.slurm.absence import Absence
from sf_runner.backends.slurm.answers import Entry, Listing
from sf_runner.backends.slurm.batches import BatchHeader, BatchPaths, TaskJob
from sf_runner.backends.slurm.fold import Unit
from sf_runner.backends.slurm.script import COMMENT, comment_of
from sf_runner.backends.slurm.states import meaning
from sf_runner.backends.slurm.task_records import TaskHistory
from sf_runner.basics.files import replace_file


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
    """As Slurm last showed it; None: not at all."""
    absence: Absence | None = None
    """What is found out while squeue does not show it, or shows what its records speak against."""
    asked: int = 0
    """Number of the question to Slurm that `entry` or `word` answers."""
    read_after: int = 0
    """How many questions had been asked when its records were last found to have grown."""
    settled_at: float | None = None
    """Since when Slurm says that it is over."""
    word: str = ""
    """Where Slurm shows nothing: the state it was in last by accounting, CANCELLED, or VANISHED."""
    orders: dict[str, StopOrder] = field(default_factory=dict)
    written_orders: dict[str, StopOrder] = field(default_factory=dict)
    enforced_at: float = 0.0
    released: tuple[int, int] | None = None
    """How often it had begun, and how much its script had printed, when Slurm was last asked to end its hold."""
    dirty: bool = False
    """Something new is known that may end an attempt."""

    @property
    def all_stopping(self) -> bool:
        return bool(self.units) and all(unit.stopping for unit in self.units.values())

    @property
    def is_told_since(self) -> bool:
        """Whether Slurm was asked after the last record was there. It may have been asked just before: `PENDING` would
        mean that a task that has only just begun was taken back."""
        return self.asked > self.read_after

    def speaks_against(self, entry: Entry) -> bool:
        """Whether its records say otherwise than squeue, whose answer may be an old one: a site may keep answers for a
        while. What would have an experiment run again is therefore asked of the controller itself."""
        known = self.entry
        if known is not None and (known.state, known.reason) == (entry.state, entry.reason) and self.is_told_since:
            return False
        phase = meaning(entry.state).phase
        return (phase == "queued" and self.history.begins > 0) or (phase == "over" and self.history.live)

    def shows(self, entry: Entry, now: float, asked: int) -> bool:
        """Take over what Slurm shows of it; whether its state is another one."""
        before, self.entry, self.asked = self.entry, entry, asked
        if before is None or (before.state, before.reason) != (entry.state, entry.reason):
            self.dirty = True
        if meaning(entry.state).phase != "over":
            self.settled_at, self.word = None, ""
        elif self.settled_at is None:
            self.settled_at = now
        return before is None or before.state != entry.state

    def ended(self, word: str, now: float, asked: int) -> None:
        """Slurm shows nothing any more, and this is how it ended."""
        self.entry, self.word, self.asked, self.dirty = None, word, asked, True
        self.settled_at = now if self.settled_at is None else self.settled_at

    def write_orders(self, paths: BatchPaths) -> bool:
        """Tell the wrapper; whether there was anything new. OSError when the disk is full."""
        if self.orders == self.written_orders:
            return False
        body = {job: {"level": order.level, "grace_s": order.grace_s} for job, order in self.orders.items()}
        path = paths.orders(self.index)
        path.parent.mkdir(exist_ok=True)
        replace_file(path, json.dumps(body).encode())
        self.written_orders = dict(self.orders)
        return True

    def try_orders(self, paths: BatchPaths) -> None:
        """The same where nothing depends on it."""
        with suppress(OSError):
            self.write_orders(paths)


@dataclass(kw_only=True)
class Array:
    """`array_id` is empty until it is known to be submitted."""

    paths: BatchPaths
    header: BatchHeader
    tasks: dict[int, Task]
    array_id: str = ""
    submitted_at: float = 0.0
    throttle: int = 0
    """Tasks side by side; 0: no limit."""
    shown_throttle: int | None = None
    """The same as Slurm last showed it."""
    told_throttle: int | None = None
    """The same as Slurm was last told."""
    blocked: bool = False
    """Whether it waits for other arrays, because of --max_parallel."""
    opened: bool = False
    """Whether Slurm was told that it need not."""
    looking_up: bool = False
    """Whether the controller is being asked about it."""

    @property
    def cluster(self) -> str:
        return self.header.cluster

    def task_id(self, index: int) -> str:
        return f"{self.array_id}_{index}"

    def is_in(self, listing: Listing | None) -> bool:
        """Whether a listing is of this array, not of a later one with its number: a controller that has lost its memory
        counts anew."""
        if listing is None:
            return False
        return not listing.comment.startswith(COMMENT) or listing.comment == comment_of(str(self.paths.root))

    def has_printed(self, index: int) -> bool:
        """Whether the script of a task may have been started: it leaves a file, which only the wrapper removes."""
        return self.paths.output(index).exists() or not self.prints_here

    def printed_bytes(self, index: int) -> int:
        """How much there is in that file. Slurm itself writes there that it takes a job back."""
        try:
            return self.paths.output(index).stat().st_size
        except OSError:
            return 0

    @cached_property
    def prints_here(self) -> bool:
        return self.paths.prints_here()

    @property
    def live(self) -> bool:
        return any(task.units for task in self.tasks.values())


def make_array(paths: BatchPaths, header: BatchHeader, tasks: Sequence[Sequence[TaskJob]]) -> Array:
    """With no units yet."""
    made = {index: Task(index=index, jobs={job.job: job for job in jobs}) for index, jobs in enumerate(tasks)}
    return Array(paths=paths, header=header, tasks=made, throttle=header.throttle)
