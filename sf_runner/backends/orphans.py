"""Attempts that this process did not start: of an earlier runner, or of one that was killed.

Their exit records are written by whoever is their parent now: the earlier runner, or the guardian. Only when nobody is
left who could write one is an attempt reported as ended without a record.
"""

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
from sf_runner.backends.job_parent import group_alive
from sf_runner.backends.process_tools import (
    boot_id,
    is_alive,
    make_handle,
    make_tag,
    signal_group,
    signal_process,
    started_up_s,
    tagged_processes,
)
from sf_runner.backends.stopping import Stopper

_SETTLE_POLL_S = 0.05
_WATCH_POLL_S = 1.0
_RECORD_WAIT_S = 5.0
"""A parent that has reaped an attempt writes its record at once; after this long it is not coming."""


def read_exit_record(path: str, attempt: int) -> dict[str, Any] | None:
    """The exit record of exactly that attempt, or None."""
    try:
        record = json.loads(Path(path).read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("attempt") == attempt else None


@dataclass(kw_only=True)
class _Orphan:
    known: Known
    tag: str
    pid: int | None
    """Leader of the attempt's session; None when only leftovers, or nothing, was found."""
    pidfd: int | None = None
    main_ended_at: float | None = None
    kill_at: float | None = None
    record: dict[str, Any] | None = None


class OrphanWatch:
    """Watches them by pidfd, awaits their exit records, and ends what they leave behind.

    `recorders`: handles of processes that may be their parents. `statuses`: exit records of processes whose end the
    guardian saw while there was no runner, by pid.
    """

    def __init__(
        self,
        run_id: str,
        selector: selectors.BaseSelector,
        stopper: Stopper,
        leftover_grace_s: float,
        *,
        recorders: Sequence[Mapping[str, Any]],
        statuses: Mapping[int, Mapping[str, Any]],
    ) -> None:
        self._run_id = run_id
        self._selector = selector
        self._stopper = stopper
        self._grace_s = leftover_grace_s
        self._boot = boot_id()
        self._recorders = [handle for handle in recorders if is_alive(handle, self._boot)]
        self._statuses = statuses
        self._orphans: dict[str, _Orphan] = {}

    def adopt(self, known: Sequence[Known]) -> list[Report]:
        """Find these attempts; those that are gone are reported at once, the others later by `poll`."""
        reports: list[Report] = []
        found = tagged_processes([f"{self._run_id}:"]) if known else {}
        for attempt in known:
            tag = make_tag(self._run_id, attempt.job, attempt.attempt)
            pid = self._main_process(attempt, found.get(tag, []))
            orphan = _Orphan(known=attempt, tag=tag, pid=pid)
            self._orphans[attempt.job] = orphan
            if pid is None:
                orphan.main_ended_at = time.time()
                orphan.record = self._seen_by_guardian(attempt)
                continue
            if attempt.handle is None:
                handle = make_handle(pid, started_up_s(pid) or 0.0, self._boot)
                reports.append(Started(job=attempt.job, attempt=attempt.attempt, handle=handle, t=time.time()))
            self._watch(orphan, pid)
        self.poll(time.time(), reports)
        return reports

    def stop(self, job: str, level: StopLevel, grace_s: float) -> None:
        orphan = self._orphans.get(job)
        if orphan is not None and orphan.pid is not None:
            self._stopper.add(job, orphan.known.attempt, orphan.pid, level, grace_s)

    def poll(self, now: float, reports: list[Report]) -> None:
        for job, orphan in list(self._orphans.items()):
            if orphan.main_ended_at is None:
                if self._main_alive(orphan):
                    continue
                orphan.main_ended_at = now
                self._unwatch(orphan)
            if self._settled(orphan, now):
                del self._orphans[job]
                self._stopper.forget(job)
                ended_at = orphan.record["ended"] if orphan.record else now
                reports.append(Ended(job=job, attempt=orphan.known.attempt, t=ended_at, record=orphan.record))

    def next_wake(self) -> float | None:
        if any(orphan.main_ended_at is not None for orphan in self._orphans.values()):
            return time.time() + _SETTLE_POLL_S
        return time.time() + _WATCH_POLL_S if any(o.pidfd is None for o in self._orphans.values()) else None

    def sessions(self) -> dict[int, str]:
        return {orphan.pid: job for job, orphan in self._orphans.items() if orphan.pid is not None}

    def close(self) -> None:
        for orphan in self._orphans.values():
            self._unwatch(orphan)

    def _main_process(self, known: Known, tagged: Sequence[int]) -> int | None:
        if known.handle is not None:
            return int(known.handle["pid"]) if is_alive(known.handle, self._boot) else None
        for pid in tagged:
            try:
                if os.getsid(pid) == pid:
                    return pid
            except OSError:
                continue
        return None

    def _seen_by_guardian(self, known: Known) -> dict[str, Any] | None:
        if known.handle is None:
            return None
        status = self._statuses.get(int(known.handle["pid"]))
        return None if status is None else {**status, "attempt": known.attempt}

    def _main_alive(self, orphan: _Orphan) -> bool:
        assert orphan.pid is not None
        return is_alive({**(orphan.known.handle or {}), "pid": orphan.pid, "boot": self._boot}, self._boot)

    def _watch(self, orphan: _Orphan, pid: int) -> None:
        try:
            orphan.pidfd = os.pidfd_open(pid)
        except (OSError, AttributeError):  # it has just ended, or there are no pidfds: the poll interval serves
            return
        self._selector.register(orphan.pidfd, selectors.EVENT_READ)

    def _unwatch(self, orphan: _Orphan) -> None:
        if orphan.pidfd is not None:
            self._selector.unregister(orphan.pidfd)
            os.close(orphan.pidfd)
            orphan.pidfd = None

    def _settled(self, orphan: _Orphan, now: float) -> bool:
        """Nothing of it is left, and its record is here or will never come."""
        left = tagged_processes([orphan.tag]).get(orphan.tag, [])
        group_left = orphan.pid is not None and group_alive(orphan.pid) and _has_live_member(orphan.pid)
        if left or group_left:
            self._end_leftovers(orphan, left, now)
            return False
        if orphan.record is None:
            orphan.record = read_exit_record(orphan.known.exit_record, orphan.known.attempt)
        if orphan.record is not None:
            return True
        assert orphan.main_ended_at is not None
        nobody_left = not any(is_alive(handle, self._boot) for handle in self._recorders)
        return nobody_left or now - orphan.main_ended_at > _RECORD_WAIT_S

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


def _has_live_member(pgid: int) -> bool:
    """Whether a process group has a member that is not a zombie (their parents reap those in their own time)."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, group = (entry / "stat").read_bytes().rpartition(b") ")[2].split()[:3]
            except (OSError, ValueError):
                continue
            if int(group) == pgid and state not in (b"Z", b"X"):
                return True
    return False
