"""Attempts that this process did not start: of an earlier runner, or of one that was killed.

Their exit records are written by whoever is their parent now: the earlier runner, or a guardian. When nobody is left
who could write one, the kernel is asked; only when it cannot tell either is an attempt reported without a record.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sf_runner.backends.base import Ended, Known, Report, Started, StopLevel
from sf_runner.backends.stopping import Stopper
from sf_runner.basics.clock import SYSTEM_CLOCK, boot_id, steady_s
from sf_runner.linux.ending import Ending, Main, Member, read_stop, send_missed_term, stop_file, trees_of
from sf_runner.linux.exit_record import exit_record, read_record, write_record
from sf_runner.linux.kernel import end_of_stranger, process_stat, session_of, started_up_s
from sf_runner.linux.process_tools import handle_of, is_alive, is_zombie_of, make_tag, tagged_processes

_SETTLE_POLL_S = 0.05
_WATCH_POLL_S = 1.0
_RECORD_WAIT_S = 5.0
"""A parent writes the record of an attempt that has ended at once; after this long it is not coming."""
_NO_SIGN_WAIT_S = 2.0
"""The same where there is no sign of its having been started."""
_HELD_RECORD_WAIT_S = 60.0
"""A parent known to hold the attempt may have to wait for room on the disk."""


def read_exit_record(known: Known) -> dict[str, Any] | None:
    """The exit record of exactly that attempt, or None."""
    record = read_record(known.exit_record, known.attempt)
    if record is None:
        return None
    same = known.handle is None or record.get("pid") in (None, known.handle["pid"])
    return record if same else None


@dataclass(kw_only=True)
class _Orphan:
    """Its times are of the steady clock."""

    known: Known
    tag: str
    pid: int | None
    """Leader of the attempt's session; None when only leftovers, or nothing, was found."""
    pidfd: int | None = None
    main_ended_at: float | None = None
    started_up_s: float = -1.0
    """When `pid` started; -1 when it was not seen alive."""
    ending: Ending | None = None
    """How what it left behind is being ended; None until that is decided."""
    record: dict[str, Any] | None = None


class OrphanWatch:
    """Watches them by pidfd, awaits their exit records, and ends what they leave behind.

    `recorders`: handles of processes that may be their parents. `held`: attempts of which a guardian of ours certainly
    is the parent, tag -> pid.
    """

    def __init__(
        self,
        run_id: str,
        selector: selectors.BaseSelector,
        stopper: Stopper,
        leftover_grace_s: float,
        *,
        recorders: Sequence[Mapping[str, Any]],
        held: Mapping[str, int],
    ) -> None:
        self._run_id = run_id
        self._selector = selector
        self._stopper = stopper
        self._grace_s = leftover_grace_s
        self._boot = boot_id()
        self._recorders = [handle for handle in recorders if is_alive(handle, self._boot)]
        self._held = held
        self._orphans: dict[str, _Orphan] = {}

    def adopt(self, known: Sequence[Known]) -> list[Report]:
        """Find these attempts; those that are gone are reported at once, the others later by `poll`."""
        reports: list[Report] = []
        found = tagged_processes([f"{self._run_id}:"]) if known else {}
        for attempt in known:
            tag = make_tag(self._run_id, attempt.job, attempt.attempt)
            record = read_exit_record(attempt)
            pid = None if record is not None else self._main_process(attempt, tag, found.get(tag, []))
            orphan = _Orphan(known=attempt, tag=tag, pid=pid, record=record)
            self._orphans[attempt.job] = orphan
            if pid is None:
                orphan.main_ended_at = steady_s()
            else:
                self._found(orphan, pid, reports)
        self.poll(steady_s(), reports)
        return reports

    def stop(self, job: str, level: StopLevel, grace_s: float) -> None:
        orphan = self._orphans.get(job)
        if orphan is not None and orphan.pid is not None:
            self._stopper.add(
                job,
                orphan.known.attempt,
                orphan.pid,
                level,
                grace_s,
                started_up_s=orphan.started_up_s,
                file=stop_file(orphan.known.exit_record),
            )

    def poll(self, now: float, reports: list[Report]) -> None:
        ended = [(job, orphan) for job, orphan in self._orphans.items() if self._has_ended(orphan, now)]
        if not ended:
            return
        # One look at the processes for all of them: there may be thousands.
        trees = trees_of({job: Main(orphan.tag, orphan.pid or 0, orphan.started_up_s) for job, orphan in ended})
        for job, orphan in ended:
            if not self._found_late(orphan, trees[job], reports) and self._settled(orphan, trees[job], now):
                _close(orphan)
                del self._orphans[job]
                self._stopper.forget(job)
                ended_at = orphan.record["ended"] if orphan.record else SYSTEM_CLOCK.wall()
                reports.append(Ended(job=job, attempt=orphan.known.attempt, t=ended_at, record=orphan.record))

    def _has_ended(self, orphan: _Orphan, now: float) -> bool:
        """Whether its main process is gone."""
        if orphan.main_ended_at is None:
            if self._main_alive(orphan):
                return False
            orphan.main_ended_at = now
            self._unwatch(orphan)
        return True

    def certain(self) -> bool:
        """Whether all of them are known to live."""
        return all(orphan.main_ended_at is None for orphan in self._orphans.values())

    def next_wake(self) -> float | None:
        if any(orphan.main_ended_at is not None for orphan in self._orphans.values()):
            return steady_s() + _SETTLE_POLL_S
        return steady_s() + _WATCH_POLL_S if any(o.pidfd is None for o in self._orphans.values()) else None

    def sessions(self) -> dict[int, str]:
        return {orphan.pid: job for job, orphan in self._orphans.items() if orphan.pid is not None}

    def close(self) -> None:
        for orphan in self._orphans.values():
            self._unwatch(orphan)
            _close(orphan)

    def _main_process(self, known: Known, tag: str, tagged: Sequence[int]) -> int | None:
        if known.handle is not None:
            return int(known.handle["pid"]) if is_alive(known.handle, self._boot) else None
        if tag in self._held and started_up_s(self._held[tag]) is not None:
            return self._held[tag]
        # Daemons lead sessions too; the job came first.
        leaders = [(started_up_s(pid) or float("inf"), pid) for pid in tagged if session_of(pid) == pid]
        return min(leaders, default=(0.0, None))[1]

    def _found(self, orphan: _Orphan, pid: int, reports: list[Report]) -> None:
        known = orphan.known
        orphan.pid = pid
        stat = process_stat(pid)
        orphan.started_up_s = stat.started_up_s if stat is not None else -1.0
        if known.handle is None:
            reports.append(Started(job=known.job, attempt=known.attempt, handle=handle_of(pid), t=SYSTEM_CLOCK.wall()))
        self._watch(orphan, pid)

    def _found_late(self, orphan: _Orphan, left: Sequence[Member], reports: list[Report]) -> bool:
        """Whether an attempt that was not there has appeared: its parent was killed, or we looked, just when it became
        its program. It has no environment for that moment. It must not be ended as something that it left behind."""
        known = orphan.known
        if orphan.pid is not None or known.handle is not None or orphan.record or read_exit_record(known) is not None:
            return False
        pid = self._main_process(known, orphan.tag, [member.pid for member in left])
        if pid is None:
            return False
        orphan.main_ended_at = None
        self._found(orphan, pid, reports)
        return True

    def _main_alive(self, orphan: _Orphan) -> bool:
        assert orphan.pid is not None
        return is_alive({"pid": orphan.pid, "up": orphan.started_up_s, "boot": self._boot}, self._boot)

    def _watch(self, orphan: _Orphan, pid: int) -> None:
        try:
            orphan.pidfd = os.pidfd_open(pid)
        except (OSError, AttributeError):  # it has just ended, or there are no pidfds: the poll interval serves
            return
        self._selector.register(orphan.pidfd, selectors.EVENT_READ)

    def _unwatch(self, orphan: _Orphan) -> None:
        if orphan.pidfd is not None and orphan.pidfd in self._selector.get_map():
            self._selector.unregister(orphan.pidfd)

    def _settled(self, orphan: _Orphan, left: Sequence[Member], now: float) -> bool:
        """Nothing of it is left, and its record is here or will never come."""
        if left:
            self._end_leftovers(orphan, left, now)
            return False
        orphan.record = orphan.record or read_exit_record(orphan.known)
        if orphan.record is not None:
            return True
        assert orphan.main_ended_at is not None
        waited_s = now - orphan.main_ended_at
        if waited_s <= self._record_wait_s(orphan):
            return False
        orphan.record = self._ask_the_kernel(orphan)
        return True

    def _record_wait_s(self, orphan: _Orphan) -> float:
        """How long after the attempt's end its record may still come."""
        if orphan.tag in self._held:
            return _HELD_RECORD_WAIT_S
        if not any(is_alive(handle, self._boot) for handle in self._recorders):
            return -1.0
        started = orphan.known.handle is not None or os.path.exists(orphan.known.log)  # noqa: PTH110
        return _RECORD_WAIT_S if started else _NO_SIGN_WAIT_S

    def _ask_the_kernel(self, orphan: _Orphan) -> dict[str, Any] | None:
        known = orphan.known
        handle = known.handle or {"pid": orphan.pid or 0}
        pid = int(handle["pid"])
        if orphan.pid is None and not is_zombie_of(handle, self._boot):
            return None
        ended = end_of_stranger(pid, orphan.pidfd)
        if ended is None:
            return None
        record = exit_record(known.attempt, None, ended)
        with contextlib.suppress(OSError):
            write_record(known.exit_record, record)
        return record

    def _end_leftovers(self, orphan: _Orphan, left: Sequence[Member], now: float) -> None:
        if orphan.ending is None:
            self._begin_ending(orphan, left, now)
        elif now >= orphan.ending.kill_at:
            for member in left:
                member.signal(signal.SIGKILL)

    def _begin_ending(self, orphan: _Orphan, left: Sequence[Member], now: float) -> None:
        """TERM to what has not had it. A guardian that is the parent does that itself."""
        known = orphan.known
        ending = self._stopper.being_ended(known.job, known.attempt)
        if ending is None and (elsewhere := read_stop(stop_file(known.exit_record), known.attempt)) is not None:
            ending = elsewhere[0]
        if ending is None:
            ending = Ending(kill_at=now + self._grace_s, grace_s=self._grace_s)
        orphan.ending = ending
        if orphan.tag not in self._held:
            send_missed_term(ending, left, now)


def _close(orphan: _Orphan) -> None:
    if orphan.pidfd is not None:
        os.close(orphan.pidfd)
        orphan.pidfd = None
