"""Tells of environments that broke and were made anew: the first times in full, then in one line each."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)

FULL_REPORTS = 5


class FaultLog:
    """Counts the faults of a run."""

    def __init__(self) -> None:
        self.num_faults = 0

    def add(self, where: str, env_index: int, trace: str) -> None:
        """`where` names the process, for example a rollout worker."""
        self.num_faults += 1
        lines = trace.strip().splitlines() or ["unknown error"]
        detail = f":\n{trace.strip()}" if self.num_faults <= FULL_REPORTS else f": {lines[-1]}"
        log.warning("%s made environment %d anew, which had broken%s", where, env_index, detail)
