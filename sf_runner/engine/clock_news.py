"""What the journal and people are told when the clock is set or the machine sleeps."""

from __future__ import annotations

from sf_runner.basics.clock import Clock, Jump
from sf_runner.state import events as ev
from sf_runner.state.estimate import format_duration

_TOLD_S = 5.0


def look_at_clock(clock: Clock, *, local: bool) -> tuple[Jump, list[ev.Event]]:
    """What happened to the clock since the last look, and the events that tell it; mostly none. `local`: experiments
    run on this machine, and sleep with it."""
    jump = clock.look()
    if not jump:
        return jump, []
    now = clock.now()
    news: list[ev.Event] = [ev.ClockSet(t=now.wall, clocks=now.unset)]
    if text := _text(jump, local):
        news.append(ev.Note(t=now.wall, text=text, level="info"))
    return jump, news


def _text(jump: Jump, local: bool) -> str:
    """For people; empty where it is too little to be worth a line."""
    if jump.slept_s >= _TOLD_S:
        counts = ", which counts for no time limit" if local else ""
        return f"this machine slept for {format_duration(jump.slept_s)}{counts}"
    if abs(jump.set_s) >= _TOLD_S:
        way = "back" if jump.set_s < 0 else "forward"
        size = format_duration(abs(jump.set_s))
        return f"the clock of this machine was set {way} by {size}; time limits go on as before"
    return ""
