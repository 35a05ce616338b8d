"""Asks the controller itself about tasks that squeue does not show, and sees to it that what is given up stays so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from sf_runner.backends.background_calls import BackgroundCalls
from sf_runner.backends.slurm.absence import PATIENCE_S, find_out, unasked
from sf_runner.backends.slurm.answers import Entry, Listing
from sf_runner.backends.slurm.array import Array, StopOrder, Task
from sf_runner.backends.slurm.batches import BatchPaths
from sf_runner.backends.slurm.client import Sighting, SlurmClient
from sf_runner.backends.slurm.fold import Unit
from sf_runner.basics.said import Said

_RUNNER = {"by": "runner"}


@dataclass(kw_only=True)
class Finder:
    """tell: takes what a person should read. clock: the time of the call of `poll` in which answers are delivered.
    number: the number of the next question to Slurm."""

    client: SlurmClient
    calls: BackgroundCalls
    tell: Callable[[str], None]
    clock: Callable[[], float]
    number: Callable[[], int]
    _said: Said = field(default_factory=Said)

    def look_up(self, tasks: Iterable[tuple[Array, Task]]) -> None:
        """Ask about all that are absent, one call for each array."""
        absent: dict[str, tuple[Array, list[Task]]] = {}
        for array, task in tasks:
            if task.absence is not None and not task.word and not array.looking_up:
                absent.setdefault(array.paths.name, (array, []))[1].append(task)
        for array, some in absent.values():
            array.looking_up = True
            question = partial(self.client.look_up, array.cluster, array.array_id, [task.index for task in some])
            self.calls.ask(question, partial(self._looked_up, array, some, self.number()))

    def _looked_up(self, array: Array, tasks: Sequence[Task], asked: int, answer: Any) -> None:
        array.looking_up = False
        now = self.clock()
        if isinstance(answer, Sighting) and answer.listing is not None and not array.is_in(answer.listing):
            answer = replace(answer, listing=None, accounting=Listing())
        if not isinstance(answer, Sighting):  # nobody can tell now
            for task in tasks:
                if task.absence is not None and (entry := unasked(task.absence, task.history, now)) is not None:
                    task.shows(entry, now, asked)
            return
        gone: dict[int, tuple[Task, str]] = {}
        for task in tasks:
            if task.absence is None or not task.units or asked <= task.read_after:
                continue
            found = find_out(
                task.absence,
                task.index,
                answer,
                task.history,
                printed=array.has_printed(task.index),
                stopping=task.all_stopping,
                now=now,
            )
            if isinstance(found, Entry):
                name = array.task_id(task.index)
                if task.absence.squeue is None and self._said.first("hidden"):
                    self.tell(f"squeue does not show job {name}, which Slurm has; scontrol is asked about such jobs")
                task.shows(found, now, asked)
            elif found:
                gone[task.index] = (task, found)
            else:
                self._tell_mute(array, task, now)
        if gone:
            self._give_up(array, gone, asked)

    def _give_up(self, array: Array, gone: Mapping[int, tuple[Task, str]], asked: int) -> None:
        """Only what no task can start any more is over. What runs unseen, against all that is known, is ended."""
        units = {
            index: [(unit.job, unit.attempt, unit.started) for unit in task.units.values()]
            for index, (task, _) in gone.items()
        }
        paths, run_id = array.paths, array.header.run_id

        def closed(answer: Any) -> None:
            now = self.clock()
            for index, (task, word) in gone.items():
                if not isinstance(answer, frozenset) or index in answer:
                    if task.absence is not None:
                        task.absence.denials, task.absence.since = 0, now
                    continue
                if task.history.begins:
                    task.orders |= {job: StopOrder(level="kill", grace_s=0.0, since=now) for job in task.units}
                    task.try_orders(paths)
                task.ended(word, now, asked)
            ids = [array.task_id(index) for index, (task, _) in gone.items() if task.word]
            self.calls.ask(lambda: self.client.cancel(array.cluster, ids), lambda _: None)

        self.calls.ask(lambda: close_attempts(paths, run_id, units), closed)

    def _tell_mute(self, array: Array, task: Task, now: float) -> None:
        assert task.absence is not None
        mute = task.history.live and not task.history.beat_s and now - task.absence.since > PATIENCE_S
        if mute and self._said.first(array.task_id(task.index)):
            job = next(iter(task.units))
            text = (
                f"Slurm does not know job {array.task_id(task.index)} any more, but by its records '{job}' runs in it; "
                "cancel it if it is gone"
            )
            self.tell(text)


def close_attempts(
    paths: BatchPaths, run_id: str, units: Mapping[int, Sequence[tuple[str, int, bool]]]
) -> frozenset[int]:
    """See to it that no task starts these attempts (job, attempt, whether it is known to have started) any more. The
    tasks of which one has just started all the same."""
    started = set()
    for index, attempts in units.items():
        for job, attempt, known in attempts:
            try:
                holder = paths.claim_attempt(run_id, job, attempt, _RUNNER)
            except OSError:
                started.add(index)  # cannot be told now
                continue
            if holder.get("by") != "runner" and not known:
                started.add(index)
    return frozenset(started)


def close_overdue(array: Array, task: Task, now: float) -> list[tuple[Task, Unit]]:
    """What was told to end and has not been started, where nobody can wait for Slurm any longer: it will not start."""
    found = []
    for unit in task.units.values():
        order = task.orders.get(unit.job)
        if unit.started or order is None or not (order.level == "kill" or now > order.overdue_at):
            continue
        if not close_attempts(array.paths, array.header.run_id, {task.index: [(unit.job, unit.attempt, False)]}):
            found.append((task, unit))
    return found
