"""Watching submitted arrays: when to ask Slurm, what its answers mean for each task, what has to be ended."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sf_runner.backends.background_calls import BackgroundCalls
from sf_runner.backends.base import Ended, Remark, Report
from sf_runner.backends.slurm.absence import Absence
from sf_runner.backends.slurm.answers import Listing, Queue, compress
from sf_runner.backends.slurm.array import Array, StopOrder, Task
from sf_runner.backends.slurm.client import SlurmClient, SlurmDownError, SlurmRefusedError
from sf_runner.backends.slurm.doubles import doubles, leftovers
from sf_runner.backends.slurm.finding import Finder, close_overdue
from sf_runner.backends.slurm.fold import Observation, Unit, advance
from sf_runner.backends.slurm.script import last_words, output_path
from sf_runner.backends.slurm.sharing import Load, Sharer, load_of
from sf_runner.backends.slurm.states import STUCK_REASONS, meaning
from sf_runner.backends.slurm.task_records import AttemptEnd, last_beat, read_history
from sf_runner.basics.backoff import doubled
from sf_runner.basics.clock import SYSTEM_CLOCK, steady_s
from sf_runner.basics.said import Said
from sf_runner.linux.exit_record import read_record

_SOONEST_S = 0.5
_SOON_S = 2.0
_LAST_WORD_S = 5.0
_SETTLE_S = 4.0
"""Between Slurm's word that a task is over and ours: so late may a shared file system show what was written."""
_DOWN_MAX_S = 60.0
_SLOW_MAX_S = 60.0
"""A controller that needs long for its answers is asked as seldom as this, not more seldom."""
_LOOKS_PER_S = 200.0
_ENFORCE_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Taken:
    """An attempt that its task did not start, because another one runs it (`end.by`)."""

    unit: Unit
    batch: str
    end: AttemptEnd
    order: StopOrder | None


class Watch:
    """poll_s: the longest time between two calls of squeue. While something happens it is asked every 2 seconds."""

    def __init__(self, client: SlurmClient, calls: BackgroundCalls, *, poll_s: float) -> None:
        self._client = client
        self._calls = calls
        self._poll_s = max(_SOONEST_S, poll_s)
        self._arrays: dict[str, Array] = {}
        self._where: dict[str, tuple[Array, Task]] = {}
        self._reports: list[Report] = []
        self._asking = False
        self._squeue_asked = 0
        self._heard: frozenset[str] = frozenset()
        self.taken: list[Taken] = []
        """Since this was last looked at; for who can find the other task."""
        self.sharer = Sharer(client, calls, self._ignore)
        self._now = 0.0
        self._finder = Finder(client=client, calls=calls, tell=self._tell, clock=lambda: self._now, number=self._number)
        self._next_ask = 0.0
        self._next_look = self._next_close = 0.0
        self._wait_s = _SOON_S
        self._took_s = 0.0
        self._down = 0
        self._said = Said()
        self.max_parallel: int | None = None
        self.num_calls = 0
        self._questions = itertools.count(1)
        self._asked = 0
        """Number of the last question."""

    def add(self, array: Array) -> None:
        self._arrays[array.paths.name] = array
        for task in array.tasks.values():
            self._follow(array, task)
        self._soon(steady_s())

    def follow(self, batch: str, index: int, unit: Unit, order: StopOrder | None) -> bool:
        """Watch an attempt in a task of an array that is known already; whether it is."""
        array = self._arrays.get(batch)
        if array is None or index not in array.tasks or unit.job not in array.tasks[index].jobs:
            return False
        task = array.tasks[index]
        task.units[unit.job] = unit
        self._follow(array, task)
        if order is not None:
            self.stop(unit.job, order)
        self._soon(steady_s())
        return True

    def _follow(self, array: Array, task: Task) -> None:
        for job in task.units:
            self._where[job] = (array, task)
        task.dirty = bool(task.units)
        task.read_after = self._asked

    def stop(self, job: str, order: StopOrder) -> None:
        found = self._where.get(job)
        if found is None:
            return
        _, task = found
        known = task.orders.get(job)
        if known is None or (order.level == "kill" and known.level != "kill"):
            task.orders[job] = order
            task.enforced_at = 0.0
        task.units[job].stopping = True
        task.dirty = True
        self._soon(order.since)

    def poll(self, now: float) -> list[Report]:
        self._now = now
        self._calls.collect()
        if now >= self._next_look:
            running = sum(self._look(array, task, now) for array, task in self._tasks())
            self._next_look = now + max(1.0, running / _LOOKS_PER_S)
        if self._where and not self._asking and now >= self._next_ask:  # last: the answer is to be about what was read
            self._asking = True
            self.num_calls += 1
            clusters = {array.cluster for array, _ in self._where.values()}
            self._squeue_asked = self._number()
            self._calls.ask(lambda: self._client.queue(clusters), self._answered)
        self._enforce(now)
        self._close_queued(now)
        reports, self._reports = self._reports, []
        return reports

    def next_wake(self) -> float | None:
        if not self._where:
            return None
        return self._next_look if self._asking else min(self._next_ask, self._next_look)

    def live_arrays(self) -> list[tuple[Array, Load]]:
        """Arrays of which something is queued or runs."""
        return [(array, load_of(array)) for array in self._arrays.values() if array.live]

    def num_live(self) -> int:
        """Tasks of which something is queued or runs."""
        return sum(1 for _ in self._tasks())

    def certain(self) -> bool:
        """Whether Slurm was heard, and no task is over of which not all is reported."""
        return all(
            array.cluster in self._heard
            and task.settled_at is None
            and (task.entry is not None or (task.absence is not None and task.absence.lives))
            for array, task in self._tasks()
        )

    def close(self, *, sweep: bool) -> bool:
        """Whether nothing is being asked any more. sweep: all experiments are over: nothing stays in the queue."""
        if sweep and self._arrays:
            self._calls.ask(self._sweep, lambda _: None)
        return self._calls.close(_LAST_WORD_S)

    def _sweep(self) -> None:
        """In the thread, when the last of its answers was taken."""
        arrays = list(self._arrays.values())
        queue = self._client.queue({array.cluster for array in arrays})
        for cluster, ids in doubles(queue, arrays, self._client.given_up).items():
            self._client.cancel(cluster, ids)
        for cluster, ids in leftovers(queue, arrays).items():
            self._client.cancel(cluster, ids, queued_only=True)

    # ---- asking --------------------------------------------------------------------------------------------

    def _number(self) -> int:
        """Of the next question to Slurm."""
        self._asked = next(self._questions)
        return self._asked

    def _soon(self, now: float) -> None:
        self._wait_s = min(_SOON_S, self._poll_s)
        self._next_ask = min(self._next_ask, now) if not self._down else self._next_ask

    def _answered(self, answer: Any) -> None:
        self._asking = False
        now = self._now
        if not isinstance(answer, Queue):
            self._is_down(answer, now)
            return
        self._heard |= answer.clusters
        if self._down:
            self._reports.append(Remark(text="Slurm answers again"))
            self._down = 0
        changed = self._compare(answer, now)
        took_s, self._took_s = min(answer.took_s, self._took_s), answer.took_s  # one that took long may be a chance
        longest = max(self._poll_s, min(20 * took_s, _SLOW_MAX_S))
        self._wait_s = min(_SOON_S, longest) if changed else min(1.5 * self._wait_s, longest)
        self._next_ask = now + max(self._wait_s, min(10 * took_s, _SLOW_MAX_S))
        self._next_look = now
        self.sharer.share_out(self._arrays.values(), self.max_parallel)
        self._release()
        self._tell_reasons()

    def _is_down(self, answer: Any, now: float) -> None:
        self._down += 1
        self._next_ask = now + doubled(max(self._poll_s, _SOON_S), self._down - 1, _DOWN_MAX_S)
        if self._down == 1:
            why = str(answer) if isinstance(answer, SlurmDownError) else repr(answer)
            text = f"Slurm does not answer ({why}); experiments go on, it is asked again ever more seldom"
            self._reports.append(Remark(text=text))

    def _compare(self, queue: Queue, now: float) -> bool:
        """Take over what squeue shows; whether anything is new."""
        changed, listings = False, dict[str, Listing | None]()
        for array in self._arrays.values():
            listing = queue.arrays.get((array.cluster, array.array_id))
            listings[array.paths.name] = listing if array.is_in(listing) else None
            array.shown_throttle = listing.throttle if listing is not None else None
        for array, task in self._tasks():
            if array.cluster not in queue.clusters:
                continue
            listing = listings[array.paths.name]
            entry = listing.find(task.index) if listing is not None else None
            if entry is not None and not task.speaks_against(entry):
                changed = task.shows(entry, now, self._squeue_asked) or changed
                task.absence = None
            elif entry is not None or array.submitted_at <= queue.asked_at:
                if task.absence is None:
                    task.absence = Absence(since=now)
                    changed = True
                task.absence.squeue = entry
        self._finder.look_up(self._tasks())
        for cluster, ids in doubles(queue, self._arrays.values(), self._client.given_up).items():
            self._calls.ask(partial(self._client.cancel, cluster, ids), self._ignore)
        for cluster, ids in leftovers(queue, self._arrays.values()).items():
            self._calls.ask(partial(self._client.cancel, cluster, ids, queued_only=True), self._ignore)
        return changed

    # ---- what it means -------------------------------------------------------------------------------------

    def _tasks(self) -> Iterator[tuple[Array, Task]]:
        for array in self._arrays.values():
            for task in array.tasks.values():
                if task.units:
                    yield array, task

    def _look(self, array: Array, task: Task, now: float) -> bool:
        """Read what the wrapper wrote and report what it means; whether it may write more."""
        state = task.entry.state if task.entry is not None else task.word
        what = meaning(state, task.entry.reason if task.entry is not None else "") if state else None
        runs = what is not None and what.phase == "running"
        if task.absence is not None:
            task.absence.heard(last_beat(array.paths.records(task.index)), now)
        if not (task.dirty or runs or task.absence is not None or (what is not None and what.phase == "over")):
            return False
        if read_history(array.paths.records(task.index), task.history):
            task.read_after = self._asked
        task.dirty = not task.is_told_since
        if task.dirty:
            what = None
        settled = task.settled_at is not None and now - task.settled_at >= _SETTLE_S
        for unit in list(task.units.values()):
            if self._is_taken(array, task, unit):
                continue
            job = task.jobs[unit.job]
            output = output_path(array.paths, array.array_id, task.index) if settled and not unit.started else None
            # Nothing can have been written by what never ran.
            final = settled or (unit.stopping and task.history.begins == 0)
            while True:
                seen = Observation(
                    task=task.history,
                    slurm=what,
                    settled=final,
                    now=SYSTEM_CLOCK.wall(),
                    handle={"slurm": array.task_id(task.index), "batch": array.paths.name},
                    record=read_record(job.exit_record, unit.attempt) if settled else None,
                    words=last_words(output) if output is not None else "",
                )
                reports, over = advance(unit, seen)
                self._reports += reports
                if over and seen.words and self._said.first("output"):
                    text = f"what its job script printed is in {output}; those of others are beside it"
                    self._reports.append(Remark(text=text, job=unit.job))
                if over:
                    self._forget(task, unit)
                if over or not reports:
                    break
        return runs or task.absence is not None

    def _is_taken(self, array: Array, task: Task, unit: Unit) -> bool:
        history = task.history.jobs.get(unit.job)
        end = history.ends.get(unit.attempt) if history is not None else None
        if end is None or end.reason != "taken":
            return False
        order = task.orders.get(unit.job)
        self._forget(task, unit)
        self.taken.append(Taken(unit=unit, batch=array.paths.name, end=end, order=order))
        return True

    def _forget(self, task: Task, unit: Unit) -> None:
        del task.units[unit.job]
        del self._where[unit.job]

    # ---- what has to be done -------------------------------------------------------------------------------

    def _enforce(self, now: float) -> None:
        """End what was told to end: queued tasks by Slurm, running ones by their wrapper, deaf ones by Slurm."""
        queued: dict[str, dict[str, list[int]]] = {}
        poked: dict[str, list[str]] = {}
        hard: dict[str, list[str]] = {}
        for array, task in self._tasks():
            if not task.orders or now - task.enforced_at < _ENFORCE_S:
                continue
            state = meaning(task.entry.state) if task.entry is not None else None
            if state is not None and state.phase == "over":
                continue
            task.enforced_at = now
            if task.all_stopping and (state is None or state.phase == "queued"):
                queued.setdefault(array.cluster, {}).setdefault(array.array_id, []).append(task.index)
            if state is not None and state.phase == "queued" and task.all_stopping and not self._down:
                continue
            try:
                if task.write_orders(array.paths):
                    poked.setdefault(array.cluster, []).append(array.task_id(task.index))
            except OSError:
                task.enforced_at = 0.0
            if task.all_stopping and now > max(order.overdue_at for order in task.orders.values()):
                hard.setdefault(array.cluster, []).append(array.task_id(task.index))
        for cluster, arrays in queued.items():
            ids = [name for array_id, indices in arrays.items() for name in compress(array_id, indices)]
            self._calls.ask(partial(self._client.cancel, cluster, ids, queued_only=True), self._ignore)
        for cluster, names in poked.items():
            self._calls.ask(partial(self._client.poke, cluster, names), self._ignore)
        for cluster, names in hard.items():
            self._calls.ask(partial(self._client.cancel, cluster, names), self._ignore)
            self._calls.ask(partial(self._client.kill, cluster, names), self._ignore)
        if queued or hard:
            self._soon(now)

    def _close_queued(self, now: float) -> None:
        """While Slurm cannot be asked to take tasks out of its queue: they run nothing when their turn comes."""
        if not self._down or now < self._next_close:
            return
        self._next_close = now + 1.0
        for held, unit in [found for array, task in self._tasks() for found in close_overdue(array, task, now)]:
            self._forget(held, unit)
            self._reports.append(Ended(job=unit.job, attempt=unit.attempt, t=SYSTEM_CLOCK.wall(), record=None))
            if self._said.first("closed"):
                text = "Slurm does not answer: what still queues there is not taken out, but will run nothing"
                self._reports.append(Remark(text=text))

    def _ignore(self, answer: Any) -> None:
        """It is done again if it did not work; what is refused is told."""
        if isinstance(answer, SlurmRefusedError) and self._said.first("refused", str(answer)):
            self._reports.append(Remark(text=f"Slurm refuses {answer}"))
        if self._where and not self._down:
            self._next_ask = min(self._next_ask, steady_s() + 0.5)

    def _release(self) -> None:
        """Slurm holds what was queued again for two minutes."""
        held: dict[str, dict[str, Task]] = {}
        for array, task in self._tasks():
            entry = task.entry
            if entry is None or entry.reason != "BeginTime":
                continue
            started = (task.history.begins, array.printed_bytes(task.index))
            if any(started) and task.released != started and task.is_told_since:
                task.released = started
                held.setdefault(array.cluster, {})[array.task_id(task.index)] = task
        for cluster, tasks in held.items():
            self._calls.ask(partial(self._client.release, cluster, list(tasks)), self._released(list(tasks.values())))

    def _released(self, held: Sequence[Task]) -> Callable[[Any], None]:
        def released(answer: Any) -> None:
            if isinstance(answer, SlurmDownError):  # it was not heard; what is not permitted is not asked for again
                for task in held:
                    task.released = None
            self._ignore(answer)

        return released

    def _tell(self, text: str) -> None:
        self._reports.append(Remark(text=text))

    def _tell_reasons(self) -> None:
        waiting: dict[str, int] = {}
        for _, task in self._tasks():
            if task.entry is not None and meaning(task.entry.state).phase == "queued":
                waiting[task.entry.reason] = waiting.get(task.entry.reason, 0) + 1
        for reason, count in waiting.items():
            remedy = STUCK_REASONS.get(reason)
            if remedy is not None and self._said.first(reason):
                self._reports.append(Remark(text=f"{count} jobs wait in Slurm because of {reason}: {remedy}"))
