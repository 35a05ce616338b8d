"""The `slurm` backend: hands attempts on in arrays, hears what became of them, ends them.

The truth about an attempt is what its wrapper wrote; squeue, asked once for all, tells which of them Slurm still knows;
sacct is asked where squeue has forgotten one of which nothing was written. Nothing here waits for Slurm: calls are made
by two threads, one for submissions, which may take long, and one for all else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sf_runner.backends.background_calls import BackgroundCalls
from sf_runner.backends.base import Ended, Known, Launch, NotStarted, Remark, Report, StopLevel
from sf_runner.backends.slurm.array import Array, Order, make_array
from sf_runner.backends.slurm.batches import BatchPaths, list_batches, next_batches, read_batch, write_batch
from sf_runner.backends.slurm.client import Limits, Refused, SlurmClient, SlurmDownError, Submitted
from sf_runner.backends.slurm.fold import Unit, may_hold
from sf_runner.backends.slurm.packing import Draft, SubmitSettings, make_drafts
from sf_runner.backends.slurm.refusals import complaint
from sf_runner.backends.slurm.task_records import read_history
from sf_runner.backends.slurm.watch import Watch
from sf_runner.basics.clock import SYSTEM_CLOCK, steady_s
from sf_runner.basics.said import Said
from sf_runner.linux.wake_pipe import WakePipe

_RETRY_SETTLE_S = 5.0
_SUBMIT_HANGS_S = 10.0
"""sbatch that takes longer is told of: it waits where a cluster is full."""
_RETRY_SUBMIT_S = (5.0, 10.0, 20.0, 40.0, 60.0)


class SlurmBackend:
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
        self._outbox: list[Launch] = []
        self._reports: list[Report] = [Remark(text=text) for text in remarks]
        self._limits = Limits()
        self._submitting: dict[str, Array] = {}
        self._retries: list[tuple[float, Array, int]] = []
        self._unsettled: list[tuple[float, Array]] = []
        self._waits_since = steady_s()
        self._said = Said()
        self._wake = WakePipe()
        self._calls = BackgroundCalls(self._wake)
        self._watch = Watch(self._client, BackgroundCalls(self._wake), poll_s=poll_s)
        self._watch.max_parallel = settings.max_parallel if settings else None

    # ---- the protocol --------------------------------------------------------------------------------------

    def open(self) -> None:
        try:
            self._limits = self._client.limits()
        except SlurmDownError:
            pass  # told once the queue is asked for

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
        self._outbox.append(launch)

    def stop(self, job: str, level: StopLevel, grace_s: float) -> None:
        for launch in self._outbox:
            if launch.job == job:
                self._outbox.remove(launch)
                self._reports.append(Ended(job=job, attempt=launch.attempt, t=SYSTEM_CLOCK.wall(), record=None))
                return
        order = Order(level=level, grace_s=grace_s, since=steady_s())
        for array in self._submitting.values():
            for task in array.tasks.values():
                if job in task.units:
                    task.units[job].stopping = True
                    task.orders[job] = order
        self._watch.stop(job, order)

    def poll(self, now: float) -> list[Report]:
        self._wake.drain()
        self._calls.collect()
        self._flush()
        self._submit_again(now)
        self._tell_waiting(now)
        reports, self._reports = self._reports, []
        return [*reports, *self._watch.poll(now)]

    def fds(self) -> Sequence[int]:
        return (self._wake.fd,)

    def set_parallel(self, number: int) -> None:
        self._watch.max_parallel = number

    def settled(self) -> bool:
        return not self._outbox and not self._submitting and not self._reports

    def certain(self) -> bool:
        return self.settled() and self._watch.certain()

    def next_wake(self) -> float | None:
        if self._outbox or self._reports:
            return steady_s()
        times = [*(item[0] for item in self._retries), *(item[0] for item in self._unsettled)]
        if (watch := self._watch.next_wake()) is not None:
            times.append(watch)
        return min(times, default=None)

    def close(self, *, detach: bool) -> None:
        if detach:
            self._flush()  # what is on its way goes on
        if self._calls.close() and self._watch.close():
            self._wake.close()

    def outlive_jobs(self) -> None:
        """They need nobody."""

    def sessions(self) -> Mapping[int, str]:
        return {}

    # ---- submitting ----------------------------------------------------------------------------------------

    def drafts(self, launches: Sequence[Launch]) -> list[Draft]:
        """The arrays that these attempts become."""
        assert self._settings is not None, "reopened to watch, not to submit"
        folders = next_batches(self._folder)
        return make_drafts(launches, self._settings, folders, tasks_per_array=self._limits.tasks_per_array)

    def _flush(self) -> None:
        """Everything collected since the last time, as few arrays as there are shapes."""
        launches, self._outbox = self._outbox, []
        if not launches:
            return
        if self._settings is not None and self._watch.max_parallel is not None:
            self._settings = replace(self._settings, max_parallel=self._watch.max_parallel)
        for draft in self.drafts(launches):
            try:
                write_batch(draft.paths, draft.header, draft.tasks, draft.script)
            except OSError as exc:
                self._refuse(draft, f"cannot write {draft.paths.root}: {exc.strerror}", permanent=False)
                continue
            array = make_array(draft.paths, draft.header, draft.tasks)
            for task in array.tasks.values():
                task.units = {job.job: Unit(job=job.job, attempt=job.attempt) for job in task.jobs.values()}
            self._hand_in(array, 0)

    def _hand_in(self, array: Array, tries: int) -> None:
        self._submitting[array.paths.name] = array
        self._calls.ask(lambda: self._client.submit(array.paths), lambda result: self._handed_in(array, tries, result))

    def _handed_in(self, array: Array, tries: int, result: Any) -> None:
        if isinstance(result, Submitted):
            del self._submitting[array.paths.name]
            array.array_id, array.submitted_at = result.array_id, steady_s()
            self._watch.add(array)
        elif isinstance(result, SlurmDownError) or (isinstance(result, Refused) and result.kind != "permanent"):
            error = result.error if isinstance(result, Refused) else str(result)
            wait_s = _RETRY_SUBMIT_S[min(tries, len(_RETRY_SUBMIT_S) - 1)]
            if tries == 0:
                self._reports.append(Remark(text=f"Slurm does not take the experiments yet, trying again: {error}"))
            self._retries.append((steady_s() + wait_s, array, tries + 1))
        else:
            del self._submitting[array.paths.name]
            error = result.error if isinstance(result, Refused) else str(result)
            array.paths.answered("never submitted")
            for task in array.tasks.values():
                for unit in task.units.values():
                    self._reports.append(_not_started(unit, f"sbatch: {error}", permanent=True))

    def _submit_again(self, now: float) -> None:
        due = [item for item in self._retries if item[0] <= now]
        self._retries = [item for item in self._retries if item[0] > now]
        for _, array, tries in due:
            self._hand_in(array, tries)
        unsettled, self._unsettled = self._unsettled, []
        for at, array in unsettled:
            if at <= now:
                self._settle(array)
            else:
                self._unsettled.append((at, array))

    def _tell_waiting(self, now: float) -> None:
        """sbatch itself waits where a cluster is full."""
        if not self._submitting or self._retries:
            self._waits_since = now
            self._said.forget("waits")
        elif now - self._waits_since > _SUBMIT_HANGS_S and self._said.first("waits"):
            first = next(iter(self._submitting.values()))
            why = first.paths.complained()
            if why:
                self._reports.append(Remark(text=f"Slurm does not take the experiments yet: {complaint(why)}"))

    def _refuse(self, draft: Draft, error: str, *, permanent: bool) -> None:
        for jobs in draft.tasks:
            for job in jobs:
                unit = Unit(job=job.job, attempt=job.attempt)
                self._reports.append(_not_started(unit, error, permanent=permanent))

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
        self._submitting[array.paths.name] = array
        self._settle(array)

    def _settle(self, array: Array) -> None:
        self._calls.ask(lambda: self._client.settle(array.paths), lambda result: self._settled(array, result))

    def _settled(self, array: Array, result: Any) -> None:
        if isinstance(result, Exception):  # nobody can tell now; told by the watch if there is one to ask
            self._unsettled.append((steady_s() + _RETRY_SETTLE_S, array))
            return
        del self._submitting[array.paths.name]
        if result:
            array.array_id = result
            self._watch.add(array)
            return
        now = SYSTEM_CLOCK.wall()
        for task in array.tasks.values():
            for unit in task.units.values():
                self._reports.append(Ended(job=unit.job, attempt=unit.attempt, t=now, record=None))


def _not_started(unit: Unit, error: str, *, permanent: bool) -> NotStarted:
    return NotStarted(job=unit.job, attempt=unit.attempt, t=SYSTEM_CLOCK.wall(), error=error, permanent=permanent)
