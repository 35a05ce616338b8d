"""Watching submitted arrays: when to ask Slurm, what its answers mean for each task, what has to be ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sf_runner.backends.background_calls import BackgroundCalls
from sf_runner.backends.base import Remark, Report
from sf_runner.backends.slurm.array import Array, StopOrder, Task
from sf_runner.backends.slurm.client import Queue, SlurmClient, SlurmDownError, SlurmRefusedError, compress
from sf_runner.backends.slurm.fold import Observation, Unit, advance
from sf_runner.backends.slurm.output import last_words
from sf_runner.backends.slurm.packing import throttles
from sf_runner.backends.slurm.states import STUCK_REASONS, meaning
from sf_runner.backends.slurm.task_records import read_history
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


class Watch:
    """poll_s: the longest time between two calls of squeue. While something happens it is asked every 2 seconds."""

    def __init__(self, client: SlurmClient, calls: BackgroundCalls, *, poll_s: float) -> None:
        self._client = client
        self._calls = calls
        self._poll_s = max(_SOONEST_S, poll_s)
        self._arrays: dict[str, Array] = {}
        self._where: dict[str, tuple[Array, Task]] = {}
        self._reports: list[Report] = []
        self._asking = self._heard = False
        self._next_ask = 0.0
        self._next_look = 0.0
        self._wait_s = _SOON_S
        self._took_s = 0.0
        self._down = 0
        self._said = Said()
        self.max_parallel: int | None = None
        self.num_calls = 0
        self._answered_call = 0

    def add(self, array: Array) -> None:
        self._arrays[array.array_id] = array
        for task in array.tasks.values():
            for job in task.units:
                self._where[job] = (array, task)
            task.dirty = bool(task.units)
            task.read_after = self.num_calls
        self._soon(steady_s())

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
        self._calls.collect()
        if now >= self._next_look:
            running = sum(self._look(array, task, now) for array, task in self._tasks())
            self._next_look = now + max(1.0, running / _LOOKS_PER_S)
        if self._where and not self._asking and now >= self._next_ask:  # last: the answer is to be about what was read
            self._asking = True
            self.num_calls += 1
            self._calls.ask(self._client.queue, self._answered)
        self._enforce(now)
        reports, self._reports = self._reports, []
        return reports

    def next_wake(self) -> float | None:
        if not self._where:
            return None
        return self._next_look if self._asking else min(self._next_ask, self._next_look)

    def num_live(self) -> int:
        """Tasks of which something is queued or runs."""
        return sum(1 for _ in self._tasks())

    def certain(self) -> bool:
        """Whether Slurm was heard, and no task is over of which not all is reported."""
        return not self._where or (self._heard and all(task.settled_at is None for _, task in self._tasks()))

    def close(self) -> bool:
        """Whether nothing is being asked any more."""
        return self._calls.close(_LAST_WORD_S)

    # ---- asking --------------------------------------------------------------------------------------------

    def _soon(self, now: float) -> None:
        self._wait_s = min(_SOON_S, self._poll_s)
        self._next_ask = min(self._next_ask, now) if not self._down else self._next_ask

    def _answered(self, answer: Any) -> None:
        self._asking = False
        now = steady_s()
        if not isinstance(answer, Queue):
            self._is_down(answer, now)
            return
        self._heard = True
        self._answered_call = self.num_calls  # one is asked at a time
        if self._down:
            self._reports.append(Remark(text="Slurm answers again"))
            self._down = 0
        changed = self._compare(answer, now)
        took_s, self._took_s = min(answer.took_s, self._took_s), answer.took_s  # one that took long may be a chance
        longest = max(self._poll_s, min(20 * took_s, _SLOW_MAX_S))
        self._wait_s = min(_SOON_S, longest) if changed else min(1.5 * self._wait_s, longest)
        self._next_ask = now + max(self._wait_s, min(10 * took_s, _SLOW_MAX_S))
        self._next_look = now
        self._share_out()
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
        changed = False
        forgotten: dict[str, Task] = {}
        for array, task in self._tasks():
            entry = queue.tasks.get((array.array_id, task.index))
            if entry is None and array.submitted_at > queue.asked_at:
                continue
            before = (task.entry.state, task.entry.reason) if task.entry is not None else None
            after = (entry.state, entry.reason) if entry is not None else None
            task.entry = entry
            if before != after:
                changed = changed or before is None or after is None or before[0] != after[0]
                task.dirty = True
            over = entry is None or meaning(entry.state).phase == "over"
            if not over:
                task.settled_at, task.accounting_state = None, ""
            elif task.settled_at is None:
                task.settled_at = now
            if entry is None and not task.accounting_state:
                forgotten[f"{array.array_id}_{task.index}"] = task
        if forgotten:
            self._ask_accounting(forgotten)
        return changed

    def _ask_accounting(self, forgotten: dict[str, Task]) -> None:
        """Only for tasks whose wrappers have not said everything."""
        silent = {name: task for name, task in forgotten.items() if task.units}

        def told(states: Any) -> None:
            for name, task in silent.items():
                task.accounting_state = states.get(name, "VANISHED") if isinstance(states, dict) else "VANISHED"
                task.dirty = True

        self._calls.ask(lambda: self._client.accounting(list(silent)), told)

    # ---- what it means -------------------------------------------------------------------------------------

    def _tasks(self) -> Iterator[tuple[Array, Task]]:
        for array in self._arrays.values():
            for task in array.tasks.values():
                if task.units:
                    yield array, task

    def _look(self, array: Array, task: Task, now: float) -> bool:
        """Read what the wrapper wrote and report what it means; whether the task runs."""
        state = task.entry.state if task.entry is not None else task.accounting_state
        what = meaning(state) if state else None
        runs = what is not None and what.phase == "running"
        if not (task.dirty or runs or (what is not None and what.phase == "over")):
            return False
        if read_history(array.paths.records(task.index), task.history):
            task.read_after = self.num_calls
        task.dirty = not self._is_later_than_records(task)
        if task.dirty:
            what = None
        settled = task.settled_at is not None and now - task.settled_at >= _SETTLE_S
        for unit in list(task.units.values()):
            job = task.jobs[unit.job]
            # Nothing can have been written by what never ran.
            final = settled or (unit.stopping and task.history.begins == 0)
            while True:
                seen = Observation(
                    task=task.history,
                    slurm=what,
                    settled=final,
                    now=SYSTEM_CLOCK.wall(),
                    handle={"slurm": f"{array.array_id}_{task.index}", "batch": array.paths.name},
                    record=read_record(job.exit_record, unit.attempt) if settled else None,
                    words=last_words(array.paths, task.index) if settled and not unit.started else "",
                )
                reports, over = advance(unit, seen)
                self._reports += reports
                if over:
                    self._forget(task, unit)
                if over or not reports:
                    break
        return runs

    def _is_later_than_records(self, task: Task) -> bool:
        """Whether Slurm was asked after the last record was there. It may have been asked just before: `PENDING` would
        mean that a task that has only just begun was taken back."""
        return self._answered_call > task.read_after

    def _forget(self, task: Task, unit: Unit) -> None:
        del task.units[unit.job]
        del self._where[unit.job]

    # ---- what has to be done -------------------------------------------------------------------------------

    def _enforce(self, now: float) -> None:
        """End what was told to end: queued tasks by Slurm, running ones by their wrapper, deaf ones by Slurm."""
        queued: dict[str, list[int]] = {}
        poked: list[str] = []
        hard: list[str] = []
        for array, task in self._tasks():
            if not task.orders or now - task.enforced_at < _ENFORCE_S:
                continue
            state = meaning(task.entry.state) if task.entry is not None else None
            if state is not None and state.phase == "over":
                continue
            task.enforced_at = now
            name = f"{array.array_id}_{task.index}"
            if task.all_stopping and (state is None or state.phase == "queued"):
                queued.setdefault(array.array_id, []).append(task.index)
            if state is not None and state.phase == "queued" and task.all_stopping:
                continue
            try:
                if task.write_orders(array.paths):
                    poked.append(name)
            except OSError:
                task.enforced_at = 0.0
            if task.all_stopping and now > max(order.overdue_at for order in task.orders.values()):
                hard.append(name)
        ids = [name for array_id, indices in queued.items() for name in compress(array_id, indices)]
        if ids:
            self._calls.ask(lambda: self._client.cancel(ids, queued_only=True), self._ignore)
        if poked:
            self._calls.ask(lambda: self._client.poke(poked), self._ignore)
        if hard:
            self._calls.ask(lambda: self._client.cancel(hard), self._ignore)
            self._calls.ask(lambda: self._client.kill(hard), self._ignore)
        if ids or hard:
            self._soon(now)

    def _ignore(self, answer: Any) -> None:
        """It is done again if it did not work; what is refused is told."""
        if isinstance(answer, SlurmRefusedError) and self._said.first("refused", str(answer)):
            self._reports.append(Remark(text=f"Slurm refuses {answer}"))
        if self._where and not self._down:
            self._next_ask = min(self._next_ask, steady_s() + 0.5)

    def _share_out(self) -> None:
        """Keep the arrays' throttles at what the limit allows, as arrays come, end and the limit changes."""
        live = {
            number: (array, sum(bool(task.units) for task in array.tasks.values()))
            for number, array in enumerate(self._arrays.values())
            if array.live
        }
        wanted = throttles(
            {n: (left, array.header.side_by_side) for n, (array, left) in live.items()}, self.max_parallel
        )
        for number, (array, left) in live.items():
            share = wanted[number]
            if share == array.throttle or (array.throttle and left <= array.throttle and not share):
                continue
            array.throttle = share
            self._calls.ask(_throttle(self._client, array.array_id, share), self._ignore)

    def _release(self) -> None:
        """Slurm holds what was queued again for two minutes."""
        held: dict[str, Task] = {}
        for array, task in self._tasks():
            entry = task.entry
            if entry is None or entry.reason != "BeginTime" or not task.history.begins:
                continue
            if task.released_begin != task.history.begins and self._is_later_than_records(task):
                task.released_begin = task.history.begins
                held[f"{array.array_id}_{task.index}"] = task
        if not held:
            return

        def released(answer: Any) -> None:
            if isinstance(answer, SlurmDownError):  # it was not heard; what is not permitted is not asked for again
                for task in held.values():
                    task.released_begin = -1
            self._ignore(answer)

        self._calls.ask(lambda: self._client.release(list(held)), released)

    def _tell_reasons(self) -> None:
        waiting: dict[str, int] = {}
        for _, task in self._tasks():
            if task.entry is not None and meaning(task.entry.state).phase == "queued":
                waiting[task.entry.reason] = waiting.get(task.entry.reason, 0) + 1
        for reason, count in waiting.items():
            remedy = STUCK_REASONS.get(reason)
            if remedy is not None and self._said.first(reason):
                self._reports.append(Remark(text=f"{count} jobs wait in Slurm because of {reason}: {remedy}"))


def _throttle(client: SlurmClient, array_id: str, number: int) -> Any:
    return lambda: client.throttle(array_id, number)
