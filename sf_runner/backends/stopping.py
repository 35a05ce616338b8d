"""Ending attempts: one TERM to everything in the tree, KILL after the grace period, until nothing is left."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass

from sf_runner.backends.base import Remark, Report, StopLevel
from sf_runner.basics.clock import steady_s
from sf_runner.linux.ending import REAPED, Ending, Main, Member, read_stop, trees_of, write_stop
from sf_runner.linux.kernel import is_child, process_stat, signal_group
from sf_runner.linux.process_tools import make_tag

_REPEAT_KILL_S = 1.0
_COMPLAIN_AFTER_S = 30.0


@dataclass(kw_only=True)
class _Stop:
    attempt: int
    pid: int
    started_up_s: float
    file: str
    """Where it is said for other processes; empty: nowhere."""
    ending: Ending
    unsent: bool
    """Whether TERM has still to be sent."""
    killed_since: float | None = None
    told: bool = False


class Stopper:
    """Attempts that were told to end and have not yet been reported ended. All times are of the steady clock."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._stops: dict[str, _Stop] = {}

    def add(
        self,
        job: str,
        attempt: int,
        pid: int,
        level: StopLevel,
        grace_s: float,
        *,
        started_up_s: float | None = None,
        file: str = "",
    ) -> None:
        """End it from the next `send` or `poll` on.

        pid: leads the attempt's session and group. started_up_s: when it started; None: it is or was our child.
        file: where other processes that may be its parent look how it is being ended, see `linux.ending`.
        """
        now = steady_s()
        grace_s = 0.0 if level == "kill" else grace_s
        stop = self._stops.get(job)
        if stop is None:
            if started_up_s is None:
                stat = process_stat(pid) if is_child(pid) else None
                started_up_s = stat.started_up_s if stat is not None else REAPED
            stop = self._stops[job] = _Stop(
                attempt=attempt,
                pid=pid,
                started_up_s=started_up_s,
                file=file,
                ending=Ending(kill_at=now + grace_s, grace_s=grace_s),
                unsent=level == "terminate",
            )
        stop.ending.kill_at = min(stop.ending.kill_at, now + grace_s)

    def being_ended(self, job: str, attempt: int) -> Ending | None:
        """What was done to end it; None when it was not told to end. Whoever sends TERM to more of its processes says
        so there."""
        stop = self._stops.get(job)
        return stop.ending if stop is not None and stop.attempt == attempt else None

    def forget(self, job: str) -> None:
        """Nothing of it is left."""
        stop = self._stops.pop(job, None)
        if stop is not None and stop.file:
            with suppress(OSError):
                os.unlink(stop.file)  # noqa: PTH108

    def send(self) -> None:
        """Send TERM to what was told to end since. To be called before it is looked who has ended: the parent of what
        is left then knows who has had it."""
        unsent = {job: stop for job, stop in self._stops.items() if stop.unsent}
        if not unsent:
            return
        for job, stop in list(unsent.items()):
            stop.unsent = False
            if stop.file and (earlier := read_stop(stop.file, stop.attempt)) is not None and earlier[1]:
                # A runner that was killed since has sent it; its grace period goes on.
                stop.ending.termed = earlier[0].termed
                stop.ending.kill_at = min(stop.ending.kill_at, earlier[0].kill_at)
                del unsent[job]
        trees = self._trees(unsent)
        for job, stop in unsent.items():
            stop.ending.termed = {member.pid: member.started_up_s for member in trees[job]}
            if stop.file:
                write_stop(stop.file, stop.attempt, stop.ending, sent=False)
            _signal_tree(stop.pid, trees[job], signal.SIGTERM)
            if stop.file:
                write_stop(stop.file, stop.attempt, stop.ending, sent=True)

    def poll(self, now: float) -> list[Report]:
        """Send the signals that are due."""
        reports: list[Report] = []
        if not self._stops:
            return reports
        self.send()
        due = {job: stop for job, stop in self._stops.items() if now >= stop.ending.kill_at}
        if not due:
            return reports
        trees = self._trees(due)
        for job, stop in due.items():
            _signal_tree(stop.pid, trees[job], signal.SIGKILL)
            stop.killed_since = stop.killed_since or now
            stop.ending.kill_at = now + _REPEAT_KILL_S
            if now - stop.killed_since > _COMPLAIN_AFTER_S and not stop.told:
                stop.told = True
                reports.append(
                    Remark(
                        job=job,
                        text=f"still there {_COMPLAIN_AFTER_S:.0f} s after KILL (stuck in the kernel, state D in ps?)",
                    )
                )
        return reports

    def next_wake(self) -> float | None:
        times = [steady_s() if stop.unsent else stop.ending.kill_at for stop in self._stops.values()]
        return min(times, default=None)

    def _trees(self, stops: dict[str, _Stop]) -> dict[str, list[Member]]:
        if not stops:
            return {}
        return trees_of(
            {job: Main(make_tag(self._run_id, job, s.attempt), s.pid, s.started_up_s) for job, s in stops.items()}
        )


def _signal_tree(main: int, members: list[Member], signum: int) -> None:
    """The group of the main process at once, so that nothing it starts meanwhile is missed; the others one by one."""
    if any(member.group == main for member in members):
        signal_group(main, signum)
    for member in members:
        if member.group != main:
            member.signal(signum)
