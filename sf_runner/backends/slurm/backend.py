"""The `slurm` backend: hands attempts on in arrays, hears what became of them, ends them.

The truth about an attempt is what its wrapper wrote; squeue, asked once for all, tells which of them Slurm still knows;
sacct is asked where squeue has forgotten one of which nothing was written. Nothing here waits for Slurm: calls are made
by two threads, one for submissions, which may take long, and one for all else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sf_runner.backends.background_calls import BackgroundCalls
from sf_runner.backends.base import Backend, Ended, Fate, Known, Launch, Remark, Report, Room, StopLevel
from sf_runner.backends.slurm.array import Array, StopOrder, make_array
from sf_runner.backends.slurm.batches import BatchPaths, list_batches, next_batches, read_batch
from sf_runner.backends.slurm.client import Limits, SlurmClient, SlurmDownError
from sf_runner.backends.slurm.fold import Unit, may_hold
from sf_runner.backends.slurm.packing import Draft, SubmitSettings, make_drafts
from sf_runner.backends.slurm.script import dependency
from sf_runner.backends.slurm.sharing import after_all, has_to_wait, load_of
from sf_runner.backends.slurm.submitting import Submitter
from sf_runner.backends.slurm.task_records import read_history
from sf_runner.backends.slurm.watch import Taken, Watch
from sf_runner.basics.clock import SYSTEM_CLOCK, steady_s
from sf_runner.linux.wake_pipe import WakePipe
from sf_runner.state.failures import make_cause

_RETRY_SETTLE_S = 5.0


class SlurmBackend(Backend):
    """folder: where the run's batches are. settings: how to submit; None: only watches and ends (see `reopen`)."""

    name = "slurm"

    def __init__(
        self,
        folder: Path,
        settings: SubmitSettings | None,
        *,
        poll_s: float = 10.0,
        client: SlurmClient | None = None,
        remarks: Sequence[str] = (),
    ) -> None:
        self._folder = folder.absolute()
        self._settings = settings
        self._client = client or SlurmClient()
        self._reports: list[Report] = [Remark(text=text) for text in remarks]
        self._unsettled: dict[str, Array] = {}
        """Of an earlier runner, of which it is not known whether sbatch took them."""
        self._settle_again: list[tuple[float, Array]] = []
        self._wake = WakePipe()
        self._calls = BackgroundCalls(self._wake)
        self._watch = Watch(self._client, BackgroundCalls(self._wake), poll_s=poll_s)
        self._watch.max_parallel = settings.max_parallel if settings else None
        self._submitter: Submitter | None = None
        if settings is not None:
            self._watch.sharer.own_dependency = dependency(settings.script)
            self._submitter = Submitter(
                self._folder,
                settings,
                self._client,
                self._calls,
                live=self._live,
                submitted=self._watch.add,
                waits_for=self._waits_for,
            )

    # ---- the protocol --------------------------------------------------------------------------------------

    def open(self) -> None:
        """Nothing is asked before it is needed: Slurm may be down."""

    def adopt(self, known: Sequence[Known]) -> list[Report]:
        wanted = {item.job: item for item in known}
        reports: list[Report] = []
        for paths in reversed(list_batches(self._folder)):  # the last batch of a job is the one that counts
            if not wanted:
                break
            array = self._reread(paths, wanted)
            if array is not None and array.live:
                self._readopt(array)
        now = SYSTEM_CLOCK.wall()
        reports += [Ended(job=item.job, attempt=item.attempt, t=now, record=None) for item in wanted.values()]
        return reports

    def submit(self, launch: Launch) -> None:
        assert self._submitter is not None, "reopened to watch, not to submit"
        self._submitter.submit(launch)

    def stop(self, job: str, level: StopLevel, grace_s: float) -> None:
        order = StopOrder(level=level, grace_s=grace_s, since=steady_s())
        if self._submitter is not None and self._submitter.stop(job, order):
            return
        for array in list(self._unsettled.values()):
            for task in array.tasks.values():
                if job in task.units:
                    task.units[job].stopping = True
                    task.orders[job] = order
                    if level == "kill":
                        self._give_up(array)
        self._watch.stop(job, order)

    def poll(self, now: float) -> list[Report]:
        self._wake.drain()
        self._calls.collect()
        if self._submitter is not None:
            self._reports += self._submitter.poll()
        self._settle_due(now)
        seen = self._watch.poll(now)
        taken, self._watch.taken = self._watch.taken, []
        for each in taken:
            self._follow(each)
        reports, self._reports = self._reports, []
        return [*reports, *seen]

    def fds(self) -> Sequence[int]:
        return (self._wake.fd,)

    def set_parallel(self, number: int) -> None:
        self._watch.max_parallel = number
        if self._submitter is not None:
            self._submitter.set_parallel(number)

    def settled(self) -> bool:
        submitted = self._submitter is None or self._submitter.settled()
        return submitted and not self._unsettled and not self._reports

    def certain(self) -> bool:
        return self.settled() and self._watch.certain()

    def next_wake(self) -> float | None:
        now = steady_s()
        times = [now] if self._reports else []
        times += [at for at, _ in self._settle_again]
        if self._submitter is not None and (wait_s := self._submitter.wait_s()) is not None:
            times.append(now + wait_s)
        if (watch := self._watch.next_wake()) is not None:
            times.append(watch)
        return min(times, default=None)

    def close(self, *, detach: bool) -> None:
        idle = self._submitter.close(hand_in=detach) if self._submitter is not None else self._calls.close(0.0)
        if self._watch.close(sweep=not detach) and idle:
            self._wake.close()

    # ---- submitting ----------------------------------------------------------------------------------------

    def drafts(self, launches: Sequence[Launch]) -> list[Draft]:
        """The arrays that these attempts would become."""
        assert self._settings is not None, "reopened to watch, not to submit"
        try:
            limits = self._client.limits()
        except SlurmDownError:
            limits = Limits()
        folders = next_batches(self._folder)
        return make_drafts(launches, self._settings, folders, tasks_per_array=limits.tasks_per_array)

    def room(self) -> Room | None:
        return self._submitter.room() if self._submitter is not None else None

    def give_back(self, *, leaving: bool) -> list[Report]:
        return self._submitter.give_back(leaving=leaving) if self._submitter is not None else []

    # ---- finding again -------------------------------------------------------------------------------------

    def _reread(self, paths: BatchPaths, wanted: dict[str, Known]) -> Array | None:
        """The batch, with the wanted attempts that are in it; they are taken out of `wanted`."""
        if paths.is_abandoned():
            return None
        try:
            header, tasks = read_batch(paths)
        except (OSError, ValueError) as exc:
            self._reports.append(Remark(text=f"{paths.tasks} cannot be read ({exc}); its experiments are not found"))
            return None
        array = make_array(paths, header, tasks)
        for task in array.tasks.values():
            for job in task.jobs.values():
                known = wanted.get(job.job)
                if known is None or job.attempt > known.attempt:
                    continue
                read_history(paths.records(task.index), task.history)
                if may_hold(task.history.jobs.get(job.job), job.attempt, known.attempt):
                    del wanted[job.job]
                    task.units[job.job] = Unit(job=job.job, attempt=known.attempt, started=known.handle is not None)
        return array

    def _readopt(self, array: Array) -> None:
        """Of an earlier runner. It may have been killed before sbatch was asked, or before it answered."""
        array.array_id = array.paths.array_id()
        if array.array_id:
            self._watch.add(array)
            return
        self._unsettled[array.paths.name] = array
        self._settle(array)

    def _settle(self, array: Array) -> None:
        paths, cluster = array.paths, array.cluster
        self._calls.ask(lambda: self._client.settle(paths, cluster), lambda result: self._settled(array, result))

    def _settle_due(self, now: float) -> None:
        due = [array for at, array in self._settle_again if at <= now]
        self._settle_again = [item for item in self._settle_again if item[0] > now]
        for array in due:
            if array.paths.name in self._unsettled:
                self._settle(array)

    def _settled(self, array: Array, result: Any) -> None:
        if array.paths.name not in self._unsettled:  # given up meanwhile
            return
        if isinstance(result, Exception):  # nobody can tell now; told by the watch if there is one to ask
            self._settle_again.append((steady_s() + _RETRY_SETTLE_S, array))
            return
        self._found(array, result)

    def _found(self, array: Array, array_id: str) -> None:
        """It was taken, or (empty id) it never will be."""
        del self._unsettled[array.paths.name]
        if array_id:
            array.array_id = array_id
            self._watch.add(array)
            return
        now = SYSTEM_CLOCK.wall()
        for task in array.tasks.values():
            for unit in task.units.values():
                self._reports.append(Ended(job=unit.job, attempt=unit.attempt, t=now, record=None))

    def _give_up(self, array: Array) -> None:
        """Somebody does not want to wait until Slurm can be asked: what it took will not run."""
        if all(task.all_stopping for task in array.tasks.values() if task.units):
            with contextlib.suppress(OSError):
                self._found(array, self._client.give_up(array.paths))

    def _follow(self, taken: Taken) -> None:
        """Watch the task that runs it in place of the one that was to."""
        unit, by = taken.unit, taken.end.by
        batch, index = str(by.get("batch", "")), int(by.get("task", -1))
        if self._watch.follow(batch, index, unit, taken.order):
            return
        paths = BatchPaths(root=self._folder / batch)
        if batch.isdigit() and batch != taken.batch and paths.tasks.exists():
            known = Known(job=unit.job, attempt=unit.attempt, handle=None, log="", exit_record="")
            array = self._reread(paths, {unit.job: known})
            if array is not None and array.live:
                self._readopt(array)
                if taken.order is not None:
                    self.stop(unit.job, taken.order.level, taken.order.grace_s)
                return
        cause = make_cause("lost", "another job was to run it, and is gone", "taken")
        fate: Fate | None = None if unit.stopping else "requeue"
        self._reports.append(
            Ended(job=unit.job, attempt=unit.attempt, t=taken.end.t, record=None, fate=fate, cause=cause)
        )

    def _waits_for(self, array: Array, further: Sequence[str]) -> str:
        """What an array has to wait for, so that --max_parallel holds: all that is there, and `further` arrays."""
        own, live = self._watch.sharer.own_dependency, self._watch.live_arrays()
        if not further and not has_to_wait([load for _, load in live], load_of(array), self._watch.max_parallel):
            return own
        if self._watch.max_parallel is None:
            return own
        return after_all([*(other.array_id for other, _ in live if other.cluster == array.cluster), *further], own)

    def _live(self) -> int:
        """Tasks in Slurm, as far as is known."""
        unsettled = sum(bool(task.units) for array in self._unsettled.values() for task in array.tasks.values())
        return self._watch.num_live() + unsettled
