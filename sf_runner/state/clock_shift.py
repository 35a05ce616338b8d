"""The clock was set, or the machine slept: the times from which a job's intervals are measured, put right."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sf_runner.basics.clock import Jump, Reading
from sf_runner.state.events import ClockSet, RunOpened
from sf_runner.state.jobs import JobState, Running, Stopping, Submitted, Waiting


@dataclass(frozen=True, kw_only=True)
class KnownClocks:
    """The last reading of the runner's clocks in the journal, and the boot of its machine ("": not known)."""

    boot: str
    reading: Reading


def next_clocks(
    before: KnownClocks | None, event: RunOpened | ClockSet, *, sleeps: bool
) -> tuple[KnownClocks | None, Jump | None]:
    """(what is known after `event`, by what times have to be shifted; None: by nothing).

    `sleeps`: jobs run on this machine, and sleep with it. Across a reboot, or a change of the machine, nobody can tell
    whether the clock was set; then the jump is empty.
    """
    if len(event.clocks) < 2:  # an older version wrote it
        return None, None
    steady, since_boot = event.clocks[:2]
    opens = isinstance(event, RunOpened)
    boot = event.boot_id if isinstance(event, RunOpened) else before.boot if before is not None else ""
    known = KnownClocks(boot=boot, reading=Reading(wall=event.t, steady=steady, boot=since_boot))
    if before is None or before.boot != boot or (opens and not boot):
        return known, Jump()
    jump = Jump.between(before.reading, known.reading)
    return known, replace(jump, slept_s=jump.slept_s if sleeps else 0.0) or None


def shifted(state: JobState, jump: Jump, now: float) -> JobState:
    """The state on the scale of the clock as it goes now. `now`: unix time, after the jump."""
    if isinstance(state, Stopping):
        running = shifted(state.running, jump, now)
        assert isinstance(running, Running | Submitted)
        return replace(state, running=running, since=state.since + jump.set_s)
    if isinstance(state, Submitted):
        return replace(state, submitted_at=state.submitted_at + jump.set_s)
    if isinstance(state, Running):
        return replace(
            state,
            submitted_at=state.submitted_at + jump.set_s,
            started_at=state.started_at + jump.set_s,
            slept_s=state.slept_s + jump.slept_s,
        )
    if isinstance(state, Waiting) and state.not_before > 0:
        # Whatever the clock said before a reboot: nobody waits longer than was meant.
        return replace(state, not_before=min(state.not_before + jump.set_s, now + state.delay_s))
    return state
