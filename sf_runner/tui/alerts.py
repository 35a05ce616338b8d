"""The one line that says what a person should know now. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sf_runner.engine.screen import RunView
from sf_runner.state import events as ev
from sf_runner.state.failures import failure_groups
from sf_runner.state.fold import RunState
from sf_runner.tui.view_model import Alert, Life, short_name

_NOTE_SHOWN_S = 30.0


def make_alert(view: RunView, life: Life, message: str, failures: str, *, own: bool) -> Alert | None:
    """`message`: the answer to the last key, while it is fresh; `failures`: causes so far, in short; `own`: Ctrl-C
    here means the run."""
    state = view.state
    if view.trouble:
        return Alert(text=view.trouble, level="error")
    if message:
        return Alert(text=message, level="info")
    if life == "gone":
        return Alert(text=_gone(state), level="warning")
    if life == "finished":
        return Alert(text=_finished(state, failures), level="note" if state.count("Failed") else "info")
    if state.draining is not None:
        text, ctrl_c = _DRAINING[state.draining.reason]
        hint = f" (ctrl-c again {ctrl_c} them)" if own and ctrl_c else ""
        return Alert(text=text.format(len(state.active)) + hint, level="warning")
    if state.paused:
        return Alert(text="launching is paused: p goes on", level="warning")
    note = state.notes[-1] if state.notes else None
    if note is not None and note.level != "info" and 0.0 <= view.now - note.t < _NOTE_SHOWN_S:
        where = f"{short_name(note.job)}: " if note.job else ""
        return Alert(text=where + note.text, level="error" if note.level == "error" else "warning")
    if view.hold:
        return Alert(text=f"waiting: {view.hold}", level="note")
    return Alert(text=failures, level="error") if failures else None


def failure_text(state: RunState) -> str:
    """`3 x ValueError: ...; 1 x out of GPU memory`; empty without failures."""
    groups = failure_groups(state)
    return "; ".join(f"{len(group.jobs)} x {group.summary}" for group in groups)


def message_of(events: Sequence[ev.Event], jobs: int) -> str:
    """What somebody's request has done, told from the events of one step."""
    cancelled = [event.job for event in events if isinstance(event, ev.JobCancelled)]
    told = [event.job for event in events if isinstance(event, ev.StopRequested) and event.reason == "cancelled"]
    requeued = [event.job for event in events if isinstance(event, ev.JobRequeued)]
    launching = [event for event in events if isinstance(event, ev.PaceChanged)]
    paused = [event.paused for event in launching if event.paused is not None]
    parallel = [event.max_parallel for event in launching if event.max_parallel is not None]
    parts = ["launching paused" if paused[-1] else "launching resumed"] if paused else []
    if parallel:
        parts.append(f"at most {parallel[-1]} side by side from now on")
    for found, text in ((told, "told to end"), (cancelled, "cancelled"), (requeued, "will be tried again")):
        if found and len(found) < jobs:
            parts.append(f"{_names(found)} {text}")
    return ", ".join(parts)


def _names(jobs: Sequence[str]) -> str:
    return short_name(jobs[0]) if len(jobs) == 1 else f"{len(jobs)} experiments"


def _gone(state: RunState) -> str:
    left = state.count("Waiting") + len(state.active)
    if state.draining is not None and state.draining.reason == "detached":
        return f"detached: {len(state.active)} experiments went on; give the run's command again ({left} not done)"
    return f"no runner is at work on it: give the run's command again ({left} not done)"


def _finished(state: RunState, failures: str) -> str:
    if state.total and state.count("Succeeded") == state.total:
        return f"the run has ended: all {state.total} experiments succeeded"
    left = state.count("Waiting") + len(state.active)
    text = f"the run has ended: {state.count('Succeeded')} of {state.total} succeeded"
    if left:
        text += f", {left} are not done"
    return f"{text}; {failures}" if failures else text


_DRAINING: Mapping[ev.DrainReason, tuple[str, str]] = {
    "interrupted": ("nothing new is started, {} still running", "ends"),
    "terminated": ("ending {} running experiments", "kills"),
    "killed": ("killing {} running experiments", ""),
    "max_failures": ("too many failures: nothing new is started, {} still running", "ends"),
    "detached": ("detached: {} experiments go on", ""),
}
"""What is going on, and what another Ctrl-C does to those that run."""
