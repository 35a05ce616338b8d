"""How many tasks Slurm takes, learned from what it takes and refuses: a user's other jobs count as well. Pure."""

from __future__ import annotations

from sf_runner.basics.backoff import doubled

_PROBE_S = 5.0
_PROBE_MAX_S = 60.0
_GATHER_S = 5.0
_GATHER_SHARE = 4


class LearnedRoom:
    """Times: seconds of any one clock. `live`: tasks of the run that are in Slurm."""

    def __init__(self) -> None:
        self.why = ""
        """Slurm's words of the last refusal."""
        self.refusals = 0
        """Of a single task, one after another."""
        self._most: int | None = None
        """So many at a time it took, when it took no more; None: it never refused."""
        self._cut = False
        self._probe = 1
        self._probe_at = 0.0
        self._free_since: float | None = None

    def free(self, live: int, now: float) -> tuple[int, float] | None:
        """(how many tasks to submit now, after how many seconds to ask again); None: no limit is known."""
        if self._most is None:
            return None
        free = self._most - live
        if free <= 0:
            self._free_since = None
            return (self._probe, 0.0) if now >= self._probe_at else (0, self._probe_at - now)
        if self._free_since is None:
            self._free_since = now
        wait_s = self._free_since + _GATHER_S - now  # one array for several, not one for each
        return (free, 0.0) if wait_s <= 0 or free * _GATHER_SHARE >= self._most else (0, wait_s)

    def refused(self, tasks: int, live: int, now: float, why: str) -> int:
        """An array of so many was refused because of a limit. How many to try in its place at once; 0: none now."""
        self.why, self._free_since = why, None
        self._cut = tasks > 1
        if self._cut:
            return tasks // 2
        self._most, self._probe = live, 1
        self._probe_at = now + doubled(_PROBE_S, self.refusals, _PROBE_MAX_S)
        self.refusals += 1
        return 0

    def taken(self, tasks: int, live: int, now: float) -> None:
        """An array of so many was taken; `live` counts them already."""
        self.refusals, self._free_since = 0, None
        if self._cut:
            self._most, self._probe, self._probe_at = live, max(1, tasks // 2), now
        elif self._most is not None and live > self._most:
            self._most, self._probe, self._probe_at = live, 2 * self._probe, now
        self._cut = False
