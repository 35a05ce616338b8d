"""Attempts whose shepherd is not ours: of an earlier runner, or of a shepherd that was killed."""

from __future__ import annotations

import json
import os
import selectors
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sf_runner.backends.base import Ended, Known, Report, Started, StopLevel
from sf_runner.backends.process_tools import (
    boot_id,
    is_alive,
    make_tag,
    signal_group,
    signal_process,
    tagged_processes,
)
from sf_runner.backends.shepherd import exit_record, start_ticks, write_record
from sf_runner.backends.stopping import Stopper

_SETTLE_POLL_S = 0.1
_WATCH_POLL_S = 1.0


def read_exit_record(path: Path, attempt: int) -> dict[str, Any] | None:
    """The exit record of exactly that attempt, or None."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("attempt") == attempt else None


@dataclass(kw_only=True)
class _Orphan:
    known: Known
    tag: str
    pid: int | None
    """Leader of the attempt's session; None when only leftovers, or nothing, was found."""
    since: float
    pidfd: int | None = None
    main_ended_at: float | None = None
    kill_at: float | None = None
    record: dict[str, Any] | None = None
    shepherds: Sequence[Mapping[str, Any]] = ()


class OrphanWatch:
    """Watches them by pidfd, awaits their exit records, and ends what they leave behind."""

    def __init__(
        self, run_id: str, selector: selectors.BaseSelector, stopper: Stopper, leftover_grace_s: float
    ) -> None:
        self._run_id = run_id
        self._selector = selector
        self._stopper = stopper
        self._grace_s = leftover_grace_s
        self._boot = boot_id()
        self._orphans: dict[str, _Orphan] = {}

    def adopt(self, known: Sequence[Known]) -> list[Report]:
        """Find these attempts; those that are gone are reported at once, the others later by `poll`."""
        reports: list[Report] = []
        if not known:
            return reports
        found = tagged_processes([f"{self._run_id}:"])
        shepherds = [
            {"pid": pid, "ticks": start_ticks(pid), "boot": self._boot}
            for pid in found.get(make_tag(self._run_id, "shepherd", 0), [])
        ]
        for attempt in known:
            tag = make_tag(self._run_id, attempt.job, attempt.attempt)
            pid = self._main_process(attempt, found.get(tag, []))
            orphan = _Orphan(known=attempt, tag=tag, pid=pid, since=time.time(), shepherds=shepherds)
            self._orphans[attempt.job] = orphan
            if pid is None:
                orphan.main_ended_at = time.time()
                continue
            if attempt.handle is None:
                handle = {"pid": pid, "ticks": start_ticks(pid), "boot": self._boot}
                reports.append(Started(job=attempt.job, attempt=attempt.attempt, handle=handle, t=time.time()))
            self._watch(orphan, pid)
        self.poll(time.time(), reports)
        return reports

    def _main_process(self, known: Known, tagged: Sequence[int]) -> int | None:
        if known.handle is not None:
            pid = int(known.handle["pid"])
            return pid if is_alive(known.handle, self._boot) or _is_unreaped_child(pid) else None
        for pid in tagged:
            try:
                if os.getsid(pid) == pid:
                    return pid
            except OSError:
                continue
        return None

    def _watch(self, orphan: _Orphan, pid: int) -> None:
        try:
            orphan.pidfd = os.pidfd_open(pid)
        except (
            OSError,
            AttributeError,
        ):  # it has just ended, or there are no pidfds: the poll interval serves
            return
        self._selector.register(orphan.pidfd, selectors.EVENT_READ)

    def stop(self, job: str, level: StopLevel, grace_s: float) -> None:
        orphan = self._orphans.get(job)
        if orphan is not None and orphan.pid is not None:
            self._stopper.add(job, orphan.known.attempt, orphan.pid, level, grace_s)

    def poll(self, now: float, reports: list[Report]) -> None:
        for job, orphan in list(self._orphans.items()):
            if orphan.main_ended_at is None and not self._main_ended(orphan):
                continue
            if orphan.main_ended_at is None:
                orphan.main_ended_at = now
                self._unwatch(orphan)
            if self._settled(orphan, now):
                del self._orphans[job]
                self._stopper.forget(job)
                ended_at = orphan.record["ended"] if orphan.record else now
                reports.append(Ended(job=job, attempt=orphan.known.attempt, t=ended_at, record=orphan.record))

    def _main_ended(self, orphan: _Orphan) -> bool:
        """Whether the main process is over. If it is our child (its shepherd was killed), its status is taken here."""
        assert orphan.pid is not None
        try:
            pid, status, usage = os.wait4(orphan.pid, os.WNOHANG)
        except ChildProcessError:
            return not is_alive({**(orphan.known.handle or {}), "pid": orphan.pid, "boot": self._boot}, self._boot)
        if pid == 0:
            return False
        orphan.record = exit_record(orphan.known.attempt, pid, orphan.since, status, usage)
        try:
            write_record(str(orphan.known.exit_record), orphan.record)
        except OSError:
            pass  # the journal will know
        return True

    def _settled(self, orphan: _Orphan, now: float) -> bool:
        """Nothing of it is left, and its record is here or will never come."""
        left = tagged_processes([orphan.tag]).get(orphan.tag, [])
        if orphan.pid is not None:
            _reap_group(orphan.pid)
        group = orphan.pid is not None and signal_group(orphan.pid, 0)
        if left or group:
            self._end_leftovers(orphan, left, now)
            return False
        if orphan.record is None:
            orphan.record = read_exit_record(orphan.known.exit_record, orphan.known.attempt)
        return orphan.record is not None or not any(is_alive(s, self._boot) for s in orphan.shepherds)

    def _end_leftovers(self, orphan: _Orphan, left: Sequence[int], now: float) -> None:
        if orphan.kill_at is None:
            orphan.kill_at = now + self._grace_s
            signum = signal.SIGTERM
        elif now < orphan.kill_at:
            return
        else:
            signum = signal.SIGKILL
        if orphan.pid is not None:
            signal_group(orphan.pid, signum)
        for pid in left:
            signal_process(pid, signum)

    def _unwatch(self, orphan: _Orphan) -> None:
        if orphan.pidfd is not None:
            self._selector.unregister(orphan.pidfd)
            os.close(orphan.pidfd)
            orphan.pidfd = None

    def next_wake(self) -> float | None:
        if not self._orphans:
            return None
        settling = any(o.main_ended_at is not None for o in self._orphans.values())
        blind = any(o.pidfd is None for o in self._orphans.values())
        if settling:
            return time.time() + _SETTLE_POLL_S
        return time.time() + _WATCH_POLL_S if blind else None

    def sessions(self) -> dict[int, str]:
        return {orphan.pid: job for job, orphan in self._orphans.items() if orphan.pid is not None}

    def close(self) -> None:
        for orphan in self._orphans.values():
            self._unwatch(orphan)


def _is_unreaped_child(pid: int) -> bool:
    """A zombie that became ours when its shepherd was killed: its status can still be had."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except OSError:
        return False


def _reap_group(pgid: int) -> None:
    """Members of an ended attempt's group that became our children must not linger as zombies."""
    try:
        while os.waitpid(-pgid, os.WNOHANG)[0]:
            pass
    except OSError:
        pass
