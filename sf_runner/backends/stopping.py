"""Ending attempts: TERM to the whole process group, KILL after the grace period, until nothing is left."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from sf_runner.backends.base import Remark, Report, StopLevel
from sf_runner.basics.clock import steady_s
from sf_runner.linux.process_tools import make_tag, signal_group, signal_process, tagged_processes

_REPEAT_KILL_S = 1.0
_COMPLAIN_AFTER_S = 30.0


@dataclass(kw_only=True)
class _Stop:
    attempt: int
    pid: int | None
    grace_s: float
    kill_at: float
    killed_since: float | None = None
    told: bool = False


class Stopper:
    """Attempts that were told to end and have not yet been reported ended. All times are of the steady clock."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._stops: dict[str, _Stop] = {}

    def add(self, job: str, attempt: int, pid: int | None, level: StopLevel, grace_s: float) -> None:
        """`pid` leads the attempt's session and group; None while it is not known yet (see `known`)."""
        now = steady_s()
        grace_s = 0.0 if level == "kill" else grace_s
        stop = self._stops.get(job)
        if stop is None:
            stop = self._stops[job] = _Stop(attempt=attempt, pid=pid, grace_s=grace_s, kill_at=now + grace_s)
            if level == "terminate" and pid is not None:
                signal_group(pid, signal.SIGTERM)
        stop.kill_at = min(stop.kill_at, now + grace_s)

    def known(self, job: str, pid: int) -> None:
        """An attempt that was told to end while it was being started has a process now."""
        stop = self._stops.get(job)
        if stop is not None and stop.pid is None:
            stop.pid = pid
            stop.kill_at = min(stop.kill_at, steady_s() + stop.grace_s)
            signal_group(pid, signal.SIGTERM)

    def forget(self, job: str) -> None:
        self._stops.pop(job, None)

    def poll(self, now: float) -> list[Report]:
        """Send the signals that are due."""
        reports: list[Report] = []
        if not self._stops:
            return reports
        due = {job: stop for job, stop in self._stops.items() if stop.pid is not None and now >= stop.kill_at}
        if not due:
            return reports
        tags = {make_tag(self._run_id, job, stop.attempt): job for job, stop in due.items()}
        for pids in tagged_processes(tags).values():  # also those that left the group
            for pid in pids:
                signal_process(pid, signal.SIGKILL)
        for job, stop in due.items():
            assert stop.pid is not None
            signal_group(stop.pid, signal.SIGKILL)
            stop.killed_since = stop.killed_since or now
            stop.kill_at = now + _REPEAT_KILL_S
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
        if not self._stops:
            return None
        return min((stop.kill_at for stop in self._stops.values() if stop.pid is not None), default=None)
