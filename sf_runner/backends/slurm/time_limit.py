"""Time limits of jobs: what Slurm says of them, and when a job is to save.

Standard library only: the wrapper imports it on the node.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sf_runner.backends.slurm.batches import BatchHeader

USUAL_AHEAD_S = 120.0
_SHARE = 3
"""No more than a third of its time goes into saving and being queued again."""
_EARLY_S = 60.0
"""By so much Slurm's own signal may come too early."""
_LATE_S = 1.0


def limit_s(time: str) -> float | None:
    """Seconds of a time limit in Slurm's forms (minutes, m:s, h:m:s, d-h, d-h:m, d-h:m:s); None: without limit."""
    if not time[:1].isdigit():
        return None
    days, dash, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:  # hours come first
        hours, minutes, seconds = [*parts, 0, 0][:3]
        return ((int(days) * 24.0 + hours) * 60 + minutes) * 60 + seconds
    if len(parts) == 1:
        return parts[0] * 60.0
    hours, minutes, seconds = [0, *parts][-3:]
    return (hours * 60.0 + minutes) * 60 + seconds


@dataclass(frozen=True, kw_only=True)
class TimeLimit:
    """seconds: None without limit. source: who set it, for people."""

    seconds: float | None
    source: str


def shortest(limits: Sequence[TimeLimit | None]) -> TimeLimit | None:
    """The one that holds; None where nothing is known."""
    known = [limit for limit in limits if limit is not None]
    return min(known, key=lambda limit: float("inf") if limit.seconds is None else limit.seconds, default=None)


def partition_limit(text: str, names: str) -> tuple[TimeLimit | None, list[str]]:
    """(limit of jobs that ask for none: the partition's default, else its largest; QOS of the partition).

    text: `scontrol show partition --oneliner`. names: partitions of the job, separated by commas; empty: the default
    one."""
    found: list[TimeLimit | None] = []
    qos: list[str] = []
    for line in text.splitlines():
        fields = dict(re.findall(r"(\w+)=(\S*)", line))
        name = fields.get("PartitionName", "")
        if name in names.split(",") if names else fields.get("Default") == "YES":
            given = fields.get("DefaultTime", "NONE")
            time = fields.get("MaxTime", "UNLIMITED") if given == "NONE" else given
            found.append(TimeLimit(seconds=limit_s(time), source=f"partition '{name}'"))
            qos += [fields["QoS"]] if fields.get("QoS", "N/A") != "N/A" else []
    return shortest(found), qos


def qos_limit(text: str, name: str) -> TimeLimit | None:
    """MaxWall of a QOS, from `sacctmgr -nP show qos format=Name,MaxWall`."""
    for line in text.splitlines():
        qos, _, wall = line.partition("|")
        if qos == name and wall:
            return TimeLimit(seconds=limit_s(wall), source=f"QOS '{name}'")
    return None


def ahead_s(wanted_s: float, total_s: float | None, *, fits: bool) -> float:
    """How long before the end of so much time a job is to save. `fits`: `wanted_s` is what is usual, not what somebody
    asked for, and gives way to a short limit; what leaves no time at all always does."""
    if total_s is None or (wanted_s < total_s and not fits):
        return wanted_s
    return min(wanted_s, total_s / _SHARE)


def needs_own_clock(limit: TimeLimit | None, ahead: float) -> bool:
    """Whether Slurm's signal is too inexact for this limit, or the limit is not known."""
    return limit is None or (limit.seconds is not None and limit.seconds < _SHARE * (ahead + _EARLY_S))


class Deadline:
    """When the experiments of a job have to end, in steady seconds. left_s: asks Slurm how much time is left; None: it
    does not answer, or there is no limit."""

    def __init__(self, header: BatchHeader, left_s: Callable[[], float | None]) -> None:
        self._header = header
        self._left_s = left_s
        self._begun = 0.0
        self._own = self._slurms = float("inf")
        self.ahead_s = header.signal_ahead_s

    @property
    def at(self) -> float:
        return min(self._own, self._slurms)

    def begin(self, now: float) -> None:
        self._begun = now
        if self._header.timeout_s:
            self._own = now + self._header.timeout_s
        if self._header.asks_end:
            self._look(now)

    def is_over(self, now: float) -> bool:
        """Whether they have to end. Slurm's limit may have been changed meanwhile, so it is asked again."""
        if now < self.at:
            return False
        return now >= self._own or not self._look(now) or now >= self.at - _LATE_S

    def warned(self, now: float) -> bool:
        """Slurm has signalled that the time is nearly over, which it does up to a minute early. Whether it is."""
        return not self._look(now) or now >= self.at - _LATE_S

    def elapsed_s(self, now: float) -> float:
        return now - self._begun

    @property
    def flag(self) -> str:
        """What sets the limit, for people."""
        return "--slurm_timeout" if self._own <= self._slurms else "--slurm_time"

    def _look(self, now: float) -> bool:
        left = self._left_s()
        if left is None:
            return False
        self.ahead_s = ahead_s(self._header.signal_ahead_s, now - self._begun + left, fits=self._header.fits_ahead)
        self._slurms = now + left - self.ahead_s
        return True
