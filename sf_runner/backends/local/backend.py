"""Jobs as processes of this machine.

This process is their parent and records how they end. Attempts that it did not start itself (of an earlier runner, or
of one that was killed under the same guardian) are watched by `orphans.py`; see `guardian.py` for who records those.
"""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from sf_runner.backends.base import Backend, Ended, Known, Launch, NotStarted, Report, Started, StopLevel
from sf_runner.backends.local.orphans import OrphanWatch
from sf_runner.backends.stopping import Stopper
from sf_runner.basics.clock import SYSTEM_CLOCK, boot_id, steady_s
from sf_runner.linux.ending import stop_file
from sf_runner.linux.job_parent import JobParent, SpawnRequest
from sf_runner.linux.job_table import JobTable
from sf_runner.linux.kernel import TAG_VARIABLE, make_subreaper, uptime_s
from sf_runner.linux.process_tools import make_handle, make_tag, start_error
from sf_runner.linux.time_slices import ask_for_short_time_slices
from sf_runner.linux.wake_pipe import WakePipe

_LEFTOVER_GRACE_S = 5.0


class ProcessesBackend(Backend):
    """The `processes` backend.

    recorders: handles of processes that may still be parents of the run's jobs: earlier runners and their guardians.
    held: attempts of which a guardian of this runner is the parent, tag -> pid.
    table: where that guardian will look for the jobs of this process if it is killed.
    """

    name = "processes"

    def __init__(
        self,
        run_id: str,
        *,
        recorders: Sequence[Mapping[str, Any]] = (),
        held: Mapping[str, int] | None = None,
        table: JobTable | None = None,
        leftover_grace_s: float = _LEFTOVER_GRACE_S,
    ) -> None:
        self._run_id = run_id
        self._table = table
        self._boot = boot_id()
        self._launches: dict[str, Launch] = {}
        self._pids: dict[str, int] = {}
        self._reports: list[Report] = []
        self._environ = dict(os.environ)
        self._stopper = Stopper(run_id)
        self._parent = JobParent(leftover_grace_s, table=table, being_ended=self._stopper.being_ended)
        self._selector = selectors.DefaultSelector()
        self._orphans = OrphanWatch(
            run_id, self._selector, self._stopper, leftover_grace_s, recorders=recorders, held=held or {}
        )
        self._old_handler: Any = None

    # ---- the protocol --------------------------------------------------------------------------------------

    def open(self) -> None:
        make_subreaper()
        ask_for_short_time_slices()
        if self._table is not None:
            self._table.claim()
        self._wake = WakePipe()
        self._selector.register(self._wake.fd, selectors.EVENT_READ)
        self._old_handler = signal.signal(signal.SIGCHLD, _do_nothing)
        # The interpreter itself writes to the pipe: with a handler of ours, each end of a job would pay for its call.
        self._old_wakeup_fd = signal.set_wakeup_fd(self._wake.write_fd, warn_on_full_buffer=False)

    def adopt(self, known: Sequence[Known]) -> list[Report]:
        return self._orphans.adopt(known)

    def submit(self, launch: Launch) -> None:
        request = SpawnRequest(
            job=launch.job,
            attempt=launch.attempt,
            argv=launch.argv,
            env={**self._environ, **launch.env, TAG_VARIABLE: make_tag(self._run_id, launch.job, launch.attempt)},
            log=launch.log,
            exit_record=launch.exit_record,
            cores=launch.placement.cores,
        )
        now, up = SYSTEM_CLOCK.wall(), uptime_s()
        try:
            pid = self._parent.spawn(request)
        except (OSError, ValueError) as exc:  # ValueError: text that the operating system cannot be given
            self._reports.append(_not_started(launch, exc))
            return
        self._launches[launch.job] = launch
        self._pids[launch.job] = pid
        handle = make_handle(pid, up, self._boot)
        self._reports.append(Started(job=launch.job, attempt=launch.attempt, handle=handle, t=now))

    def stop(self, job: str, level: StopLevel, grace_s: float) -> None:
        launch = self._launches.get(job)
        if launch is not None:
            file = stop_file(launch.exit_record)
            self._stopper.add(job, launch.attempt, self._pids[job], level, grace_s, file=file)
        else:
            self._orphans.stop(job, level, grace_s)

    def poll(self, now: float) -> list[Report]:
        self._wake.drain()
        reports, self._reports = self._reports, []
        self._stopper.send()
        for end in self._parent.poll():
            del self._launches[end.job]
            del self._pids[end.job]
            self._stopper.forget(end.job)
            reports.append(Ended(job=end.job, attempt=end.attempt, t=end.record["ended"], record=end.record))
        self._orphans.poll(now, reports)
        reports.extend(self._stopper.poll(now))
        return reports

    def fds(self) -> Sequence[int]:
        return (self._selector.fileno(),)

    def settled(self) -> bool:
        return True

    def certain(self) -> bool:
        return self._orphans.certain()

    def next_wake(self) -> float | None:
        times = [t for t in (self._stopper.next_wake(), self._orphans.next_wake()) if t is not None]
        wait_s = 0.0 if self._reports else self._parent.wait_s()
        if wait_s is not None:
            times.append(steady_s() + wait_s)
        return min(times, default=None)

    def close(self, *, detach: bool) -> None:
        self._orphans.close()
        if not detach or not self._parent.busy:
            signal.set_wakeup_fd(self._old_wakeup_fd)
            signal.signal(signal.SIGCHLD, self._old_handler)
            self._selector.close()
            self._wake.close()

    def outlive_jobs(self) -> None:
        """After `close(detach=True)`: stay until every job has ended and its exit record is written. Blocks."""
        while self._parent.busy:
            self._selector.select(self._parent.wait_s())
            self.poll(steady_s())

    def sessions(self) -> dict[int, str]:
        """Pid of each live main process -> job, for telling our own GPU processes from other people's."""
        return {**{pid: job for job, pid in self._pids.items()}, **self._orphans.sessions()}


def _do_nothing(*_: object) -> None:
    """A signal that nobody handles wakes nobody."""


def _not_started(launch: Launch, exc: OSError | ValueError) -> NotStarted:
    error, permanent = start_error(launch.argv[0], launch.log, exc)
    return NotStarted(job=launch.job, attempt=launch.attempt, t=SYSTEM_CLOCK.wall(), error=error, permanent=permanent)
