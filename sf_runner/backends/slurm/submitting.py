"""Handing attempts in: one array after another, cut to what Slurm takes, and again later what it does not take now.

An array gets its folder just before sbatch is asked. Until then it is in memory only, and given back without a trace.
What Slurm has refused may be handed in anew, in other arrays. Where a submission got no answer, only the wrappers know
whether it was taken, so the array's folder is closed to them first.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sf_runner.backends.background_calls import BackgroundCalls
from sf_runner.backends.base import Ended, Launch, NotStarted, Remark, Report, Room, Withdrawn
from sf_runner.backends.slurm.array import Array, StopOrder, make_array
from sf_runner.backends.slurm.batches import next_batches, write_batch
from sf_runner.backends.slurm.client import SUBMIT_TIMEOUT_S, Limits, Refused, SlurmClient, Submitted
from sf_runner.backends.slurm.fold import Unit
from sf_runner.backends.slurm.packing import Draft, SubmitSettings, make_drafts
from sf_runner.backends.slurm.refusals import Kind, complaint
from sf_runner.backends.slurm.room import LearnedRoom
from sf_runner.backends.slurm.script import dependency
from sf_runner.basics.backoff import doubled
from sf_runner.basics.clock import SYSTEM_CLOCK, steady_s
from sf_runner.basics.said import Said

_RETRY_S = 5.0
_RETRY_MAX_S = 60.0
_HANGS_S = 10.0
"""A call that takes longer is told of."""
_HANGS_AT_THE_END_S = 1.0
"""The same while somebody waits for the run to end."""
_SURE_AFTER = 3
"""Refusals of the same array, after which words that are not understood count as final."""
_LAST_CALLS_S = 30.0


class Submitter:
    """live: counts the tasks of the run that are in Slurm. submitted: called with every array that was taken.
    waits_for: what has to end before an array begins; its second argument: further arrays that are there by now.

    One call at a time is made of `calls`; `poll` is to be called after its answers were collected.
    """

    def __init__(
        self,
        folder: Path,
        settings: SubmitSettings,
        client: SlurmClient,
        calls: BackgroundCalls,
        *,
        live: Callable[[], int],
        submitted: Callable[[Array], None],
        waits_for: Callable[[Array, Sequence[str]], str],
    ) -> None:
        self._settings = settings
        self._client = client
        self._calls = calls
        self._live = live
        self._submitted = submitted
        self._waits_for = waits_for
        self._waits_for_nobody = dependency(settings.script)
        self._folders = next_batches(folder)
        self._waiting: dict[str, Launch] = {}
        """By job: all that is in no array that was written."""
        self._drafts: deque[Draft] | None = None
        """Arrays for what waits; None: to be made anew."""
        self._launches: dict[str, Launch] = {}
        """Those of the array that was written."""
        self._array: Array | None = None
        self._limits: Limits | None = None
        self._too_large: int | None = None
        """An array of so many tasks was refused for its size."""
        self._asked: tuple[str, float] | None = None
        """Which command is being waited for, and since when."""
        self._retry_at = 0.0
        self._tries = 0
        self._room = LearnedRoom()
        self._ending = False
        self._said = Said()
        self._reports: list[Report] = []

    # ---- what the backend asks for -------------------------------------------------------------------------

    def submit(self, launch: Launch) -> None:
        self._waiting[launch.job] = launch
        self._drafts = None

    def set_parallel(self, number: int) -> None:
        self._settings = replace(self._settings, max_parallel=number)
        self._drafts = None

    def stop(self, job: str, order: StopOrder) -> bool:
        """End it if it is not in Slurm yet; whether it is not."""
        array = self._array
        if array is not None and job in self._launches:
            task = next(task for task in array.tasks.values() if job in task.units)
            task.units[job].stopping = True
            task.orders[job] = order
            if not self._submits:
                self._retract()
            elif order.level == "kill":
                self._client.abort()
            return True
        if job not in self._waiting:
            return False
        self._ended(self._waiting.pop(job))
        self._drafts = None
        return True

    def room(self) -> Room | None:
        """How many experiments to submit; None: any number."""
        found = self._room.free(self._live(), steady_s())
        if found is None:
            return None
        tasks, wait_s = found if not self._waiting and self._array is None else (0, 1.0)
        why = f"Slurm takes no more of your jobs at present ({self._room.why})"
        return Room(number=tasks * self._settings.experiments_per_task, why=why, wait_s=wait_s)

    def give_back(self, *, leaving: bool) -> list[Report]:
        """What did not get into Slurm. When the runner only leaves, whatever Slurm would take is still handed in."""
        self._ending = not leaving
        if not leaving or not self._is_well(steady_s()):
            if self._array is not None and not self._submits:
                self._retract()
            self._withdraw(self._waiting)
        reports, self._reports = self._reports, []
        return reports

    def poll(self) -> list[Report]:
        now = steady_s()
        self._tell_hanging(now)
        while self._asked is None and now >= self._retry_at and (self._array is not None or self._waiting):
            self._hand_in(now)
        reports, self._reports = self._reports, []
        return reports

    def settled(self) -> bool:
        return not self._waiting and self._array is None and not self._reports

    def wait_s(self) -> float | None:
        """When `poll` wants to be called again."""
        if self._asked is not None or (self._array is None and not self._waiting):
            return None
        return max(0.0, self._retry_at - steady_s())

    def close(self, *, hand_in: bool) -> bool:
        """Let go; with `hand_in` what waits is handed in before, if Slurm takes it. Whether no call is on its way."""
        patience_s = 0.0
        if hand_in and self._is_well(steady_s()):
            patience_s, handed_in = _LAST_CALLS_S, list[str]()
            for draft in self._make_drafts() if self._waiting else ():
                patience_s += 1.0
                if (array := self._write(draft)) is not None:
                    self._calls.ask(partial(self._submit_last, array, handed_in), lambda _: None)
        return self._calls.close(patience_s)

    # ---- asking --------------------------------------------------------------------------------------------

    @property
    def _submits(self) -> bool:
        """Whether sbatch is at it."""
        return self._asked is not None and self._asked[0] == "sbatch"

    def _is_well(self, now: float) -> bool:
        """Whether Slurm takes what it is given, as far as is known."""
        hangs = self._asked is not None and now - self._asked[1] > _HANGS_S
        return self._limits is not None and not hangs and not self._tries and self._room.free(0, now) is None

    def _ask(self, command: str, call: Callable[[], Any], answer: Callable[[Any], None]) -> None:
        self._asked = (command, steady_s())

        def answered(result: Any) -> None:
            self._asked = None
            self._said.forget("hangs")
            answer(result)

        self._calls.ask(call, answered)

    def _hand_in(self, now: float) -> None:
        if self._limits is None:
            self._ask("scontrol", self._client.limits, self._take_limits)
            return
        if self._array is None:
            drafts = self._make_drafts()
            array = self._write(drafts.popleft())
            if array is None:
                return
            self._array = array
        paths, after = self._array.paths, self._waits_for(self._array, ())
        self._array.blocked = after != self._waits_for_nobody
        self._ask("sbatch", lambda: self._client.submit(paths, after), self._take_answer)

    def _submit_last(self, array: Array, handed_in: list[str]) -> None:
        """In the thread, when nobody asks any more what became of it. handed_in: arrays that were handed in so."""
        result = self._client.submit(array.paths, self._waits_for(array, handed_in))
        if isinstance(result, Submitted):
            handed_in.append(result.array_id)

    def _take_limits(self, result: Any) -> None:
        if not isinstance(result, Limits):
            self._try_again("down", str(result))
            return
        self._limits, self._drafts = result, None

    def _make_drafts(self) -> deque[Draft]:
        if not self._drafts:
            assert self._limits is not None
            size = self._limits.tasks_per_array
            if self._too_large is not None and size >= self._too_large:
                size = max(1, self._too_large // 2)  # it does not keep to what it says of itself
            launches = list(self._waiting.values())
            self._drafts = deque(make_drafts(launches, self._settings, self._folders, tasks_per_array=size))
        return self._drafts

    def _write(self, draft: Draft) -> Array | None:
        """Its folder; None when it cannot be written, which is reported."""
        jobs = [job.job for task in draft.tasks for job in task]
        launches = {job: self._waiting.pop(job) for job in jobs}
        try:
            write_batch(draft.paths, draft.header, draft.tasks, draft.script)
        except OSError as exc:
            error = f"cannot write {draft.paths.root}: {exc.strerror}"
            self._refuse(launches, error, permanent=False)
            return None
        array = make_array(draft.paths, draft.header, draft.tasks)
        for task in array.tasks.values():
            task.units = {job.job: Unit(job=job.job, attempt=job.attempt) for job in task.jobs.values()}
        self._launches = launches
        return array

    # ---- answers -------------------------------------------------------------------------------------------

    def _take_answer(self, result: Any) -> None:
        array, now = self._array, steady_s()
        assert array is not None
        if isinstance(result, Submitted):
            self._taken(array, result.array_id)
            return
        kind: Kind = result.kind if isinstance(result, Refused) else "down"
        error = result.error if isinstance(result, Refused) else str(result)
        if kind in ("limit", "policy") and not self._is_final(kind, array):
            self._cut(array, error, now)
        elif kind == "size" and len(array.tasks) > 1:
            self._too_large, self._limits = len(array.tasks), None
            self._retract()
        elif kind in ("down", "later") or (kind == "unknown" and self._tries < _SURE_AFTER):
            self._try_again(kind, error)
            if any(unit.stopping for task in array.tasks.values() for unit in task.units.values()) or self._ending:
                self._retract()
        else:
            self._array, self._tries, self._retry_at = None, 0, 0.0
            if taken := self._client.give_up(array.paths):
                self._taken(array, taken)
                return
            self._refuse(self._launches, f"sbatch: {error}", permanent=True)
        if self._ending:
            self._withdraw(self._waiting)

    def _is_final(self, kind: Kind, array: Array) -> bool:
        """Whether a limit that may be one on what a job asks for is: nothing of the run is there that could end."""
        alone = len(array.tasks) == 1 and not self._live()
        return kind == "policy" and alone and self._room.refusals >= _SURE_AFTER

    def _taken(self, array: Array, array_id: str) -> None:
        self._array, self._tries, self._retry_at = None, 0, 0.0
        self._said.forget("refused")
        array.array_id, array.submitted_at = array_id, steady_s()
        self._submitted(array)
        self._room.taken(len(array.tasks), self._live(), steady_s())

    def _try_again(self, kind: Kind, error: str) -> None:
        self._retry_at = steady_s() + doubled(_RETRY_S, self._tries, _RETRY_MAX_S)
        self._tries += 1
        if self._said.first("refused", kind):
            self._reports.append(Remark(text=f"Slurm does not take the experiments yet, trying again: {error}"))

    def _cut(self, array: Array, error: str, now: float) -> None:
        """A limit on submitted jobs: hand in as many as are taken; the others wait for room in the run itself."""
        keep = self._room.refused(len(array.tasks), self._live(), now, error)
        kept = {job for index, task in array.tasks.items() if index < keep for job in task.units}
        self._retract()
        self._withdraw({job: launch for job, launch in self._waiting.items() if job not in kept})
        self._retry_at = 0.0
        if self._said.first("limit"):
            what = "what it takes is submitted, the rest as room appears"
            text = f"Slurm does not take {len(array.tasks)} jobs more now: {error}; {what}"
            self._reports.append(Remark(text=text))

    def _retract(self) -> None:
        """Take back the array that was written, unless it was taken after all: what was told to end has ended, the
        rest waits again."""
        array = self._array
        assert array is not None
        if array.paths.answer.exists():
            try:
                array_id = self._client.give_up(array.paths)
            except OSError as exc:
                self._try_again("down", f"cannot write {array.paths.root}: {exc.strerror}")
                return
            if array_id:
                self._taken(array, array_id)
                return
        else:  # it was refused
            shutil.rmtree(array.paths.root, ignore_errors=True)
        self._array, self._drafts = None, None
        stopping = [unit.job for task in array.tasks.values() for unit in task.units.values() if unit.stopping]
        for job in stopping:
            self._ended(self._launches.pop(job))
        self._waiting = self._launches | self._waiting
        self._launches = {}

    # ---- reports -------------------------------------------------------------------------------------------

    def _ended(self, launch: Launch) -> None:
        self._reports.append(Ended(job=launch.job, attempt=launch.attempt, t=SYSTEM_CLOCK.wall(), record=None))

    def _withdraw(self, launches: dict[str, Launch]) -> None:
        for launch in list(launches.values()):
            self._reports.append(Withdrawn(job=launch.job, attempt=launch.attempt, t=SYSTEM_CLOCK.wall()))
            self._waiting.pop(launch.job, None)
        self._drafts = None

    def _refuse(self, launches: dict[str, Launch], error: str, *, permanent: bool) -> None:
        t = SYSTEM_CLOCK.wall()
        for launch in launches.values():
            self._reports.append(
                NotStarted(job=launch.job, attempt=launch.attempt, t=t, error=error, permanent=permanent)
            )

    def _tell_hanging(self, now: float) -> None:
        """sbatch itself waits where a cluster is full; any call may hang."""
        if self._asked is None or (self._array is None and not self._waiting):
            return
        command, since = self._asked
        patience_s = _HANGS_AT_THE_END_S if self._ending else _HANGS_S
        if now - since < patience_s or not self._said.first("hangs", self._ending):
            return
        why = complaint(self._array.paths.complained()) if self._submits and self._array is not None else ""
        text = f"{command} has not answered for {now - since:.0f} s" + (f": {why}" if why else "")
        if self._submits and self._ending:
            text += (
                f"; it is waited for, {SUBMIT_TIMEOUT_S:.0f} s at most, because {len(self._launches)} experiments may "
                "come to run by it (Ctrl-C three times gives it up, and what it submits then does not run)"
            )
        self._reports.append(Remark(text=text))
