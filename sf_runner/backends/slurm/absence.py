"""A task that squeue does not show, or not as its records have it: is it hidden, over, cancelled in the queue, or gone?
Pure.

What is believed to be gone is run again, so that it must not be believed lightly: squeue may be shortened by a variable
or a site's wrapper, be an old copy, or the controller may have come up without its memory while the jobs run on.
"""

from __future__ import annotations

from dataclasses import dataclass

from sf_runner.backends.slurm.answers import Entry
from sf_runner.backends.slurm.client import Sighting
from sf_runner.backends.slurm.states import meaning
from sf_runner.backends.slurm.task_records import TaskHistory

PATIENCE_S = 30.0
"""For so long, and twice at least, the controller has to say that it knows no such job."""
_UNSURE_S = 600.0
"""The same where accounting cannot be asked now: it may know that somebody cancelled it."""
_MUTE_S = 120.0
"""After that squeue is believed, where the controller itself cannot be asked."""
_STALE_BEATS = 6
"""So many signs of life of its wrapper have to be missing."""


@dataclass(kw_only=True)
class Absence:
    """What is known of it since squeue no longer showed it."""

    since: float
    squeue: Entry | None = None
    """What squeue shows in spite of its records; None: nothing."""
    denials: int = 0
    """How often the controller said that it does not know it."""
    beat: int | None = None
    beat_at: float = 0.0
    """When its wrapper's sign of life was last found changed."""
    lives: bool = False
    """Whether it changed since."""

    def heard(self, beat: int | None, now: float) -> None:
        """Note the wrapper's sign of life."""
        if beat != self.beat:
            self.lives = self.lives or self.beat_at > 0
            self.beat, self.beat_at = beat, now

    def is_quiet(self, history: TaskHistory, now: float) -> bool:
        """Whether no wrapper can be running any more. One that never shows signs of life is not believed to be gone
        while its record says that an experiment runs."""
        if not history.begins:
            return True
        if not history.beat_s:
            return not history.live
        return now - self.beat_at >= _STALE_BEATS * history.beat_s


def unasked(absence: Absence, history: TaskHistory, now: float) -> Entry | None:
    """What to believe where the controller cannot be asked: squeue, in the end; None: wait."""
    waited = now - absence.since >= _MUTE_S
    return absence.squeue if waited and absence.is_quiet(history, now) else None


def find_out(
    absence: Absence, index: int, sighting: Sighting, history: TaskHistory, *, printed: bool, stopping: bool, now: float
) -> Entry | str:
    """What the controller shows of it in spite of squeue; else the word for how it ended; empty: nothing is known yet.

    printed: whether its script has written any output. stopping: it is to be ended: nothing depends on its coming back.
    """
    if sighting.listing is not None and (entry := sighting.listing.find(index)) is not None:
        absence.denials, absence.since = 0, now
        begun_anew = entry.restarts is None or entry.restarts >= history.begins
        return entry if begun_anew or meaning(entry.state).phase != "queued" else ""
    recorded = sighting.accounting.find(index)
    if recorded is not None and meaning(recorded.state).phase == "over":
        return recorded.state
    absence.denials += 1
    if absence.denials < 2:
        return ""
    if sighting.listing is not None and not history.begins and not printed:
        return "CANCELLED"  # its array is there without it: it was taken out while it was queued
    patience_s = PATIENCE_S if sighting.sure or stopping else _UNSURE_S
    if stopping and not history.begins:
        patience_s = 0.0  # it is to be closed, whether it is there or not
    if now - absence.since < patience_s:
        return ""
    quiet = absence.is_quiet(history, now) or (stopping and not history.beat_s)
    return "VANISHED" if quiet else ""
