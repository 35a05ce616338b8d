"""Two clocks: wall time for people and for files that other programs write, steady time for intervals.

Wall time jumps: it is set by hand or by NTP, and a virtual machine that was paused catches up. Whatever lasts or is
waited for (time limits, pauses, grace periods) is measured in steady time, which never jumps and stands still while
the machine sleeps. Steady times mean nothing after a reboot or on another machine, so the journal holds wall times; the
run loop notices when wall time jumps and writes by how much (`events.ClockSet`).

Standard library only.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

NOTICED_S: Final = 0.5
"""Smaller jumps make no difference to anybody."""
_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_SAME_MOMENT_S = 0.001
_TRIES = 20


def steady_s() -> float:
    """Seconds of a clock that never jumps and stands still while the machine sleeps."""
    return time.monotonic()


def since_boot_s() -> float:
    """Seconds since boot, sleep included: the clock of process start times."""
    return time.clock_gettime(_BOOT_CLOCK)


def boot_id() -> str:
    """Identifies this boot of this machine: times since boot, and pids, of another boot mean nothing. Empty where
    unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """All clocks at one moment, in seconds. `wall` counts from 1970, `boot` from the start of the machine."""

    wall: float
    steady: float
    boot: float

    @property
    def unset(self) -> tuple[float, float]:
        """The clocks that nobody sets, for the journal."""
        return round(self.steady, 3), round(self.boot, 3)


@dataclass(frozen=True, kw_only=True)
class Jump:
    """`set_s`: by how much the wall clock was set forward (back: negative). `slept_s`: how long the machine slept."""

    set_s: float = 0.0
    slept_s: float = 0.0

    def __bool__(self) -> bool:
        return abs(self.set_s) >= NOTICED_S or self.slept_s >= NOTICED_S

    @staticmethod
    def between(before: Reading, after: Reading) -> Jump:
        """What happened between two readings of the same boot, apart from time passing."""
        slept_s = (after.boot - after.steady) - (before.boot - before.steady)
        return Jump(set_s=(after.wall - after.boot) - (before.wall - before.boot), slept_s=max(0.0, slept_s))


_NONE: Final = Jump()


class Clock:
    """Wall time that jumps only when `look` is called: all that happens between two looks is on one scale."""

    def __init__(self) -> None:
        self._last = self.read()

    def read(self) -> Reading:
        """The clocks of the machine, as they are. Read again if the process was interrupted in between."""
        for _ in range(_TRIES):
            before = steady_s()
            reading = Reading(wall=time.time(), steady=steady_s(), boot=since_boot_s())
            if steady_s() - before < _SAME_MOMENT_S:
                break
        return reading

    def wall(self) -> float:
        """Unix time, in seconds."""
        return self._last.wall + since_boot_s() - self._last.boot

    def steady(self) -> float:
        return steady_s()

    def look(self) -> Jump:
        """Whether the wall clock was set, or the machine slept, since the last jump. False in most cases."""
        if self._goes_on():
            return _NONE
        reading = self.read()
        jump = Jump.between(self._last, reading)
        if jump:
            self._last = reading
        return jump

    def _goes_on(self) -> bool:
        """A look that costs next to nothing, for every step of a loop; it may take an interruption for a jump."""
        boot, last = since_boot_s(), self._last
        off_s = (time.time() - boot) - (last.wall - last.boot)
        return -NOTICED_S < off_s < NOTICED_S and (boot - steady_s()) - (last.boot - last.steady) < NOTICED_S

    def now(self) -> Reading:
        """All clocks; `wall` as `wall()` tells it."""
        boot = since_boot_s()
        return Reading(wall=self._last.wall + boot - self._last.boot, steady=steady_s(), boot=boot)


SYSTEM_CLOCK: Final = Clock()
"""The clock of this process."""
