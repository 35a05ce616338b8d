"""Tells of environments that broke and were made anew, and of what else their users should know, without flooding
the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from sf_algo.rollout.env_set import EnvFault

log = logging.getLogger(__name__)

FULL_REPORTS = 5
"""So many broken environments are told of in full, the others in one line each."""
NOTICE_INTERVAL_S = 30.0
"""Notices that are no breakdowns come at most this often; the next one counts those in between."""


class FaultLog:
    """Counts the faults of a run."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.num_faults = 0
        self._clock = clock
        self._next_notice = float("-inf")
        self._untold = 0

    def add(self, where: str, fault: EnvFault) -> None:
        """`where` names the process, for example a rollout worker."""
        if fault.notice:
            self._notice(where, fault)
            return
        self.num_faults += 1
        trace = fault.traceback.strip()
        lines = trace.splitlines() or ["unknown error"]
        detail = f":\n{trace}" if len(lines) > 1 and self.num_faults <= FULL_REPORTS else f": {lines[-1]}"
        log.warning("%s made environment %d anew, which had broken%s", where, fault.env_index, detail)

    def _notice(self, where: str, fault: EnvFault) -> None:
        now = self._clock()
        if now < self._next_notice:
            self._untold += 1
            return
        self._next_notice = now + NOTICE_INTERVAL_S
        times = "" if fault.count == 1 else f" ({fault.count} times so far)"
        others = f"; {self._untold} more notices of environments since the last one told" if self._untold else ""
        self._untold = 0
        log.warning("environment %d of %s: %s%s%s", fault.env_index, where, fault.notice, times, others)
