"""Plain lines for pipes, files and CI: one for each thing that happened, a summary of the state now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from sf_runner.basics.paths import NO_LOG, RunPaths
from sf_runner.basics.requests import Request
from sf_runner.basics.said import Said
from sf_runner.engine.screen import RunView, Screen
from sf_runner.engine.snapshot import running_progress
from sf_runner.slots.placement import Placement
from sf_runner.state import events as ev
from sf_runner.state.estimate import estimate, etas, format_duration
from sf_runner.state.fold import RunState

_LINES_PER_S = 20


class SilentScreen(Screen):
    """Shows nothing (`--ui=none`)."""

    def fds(self) -> Sequence[int]:
        return ()

    def requests(self) -> Sequence[Request]:
        return ()


class PlainScreen(SilentScreen):
    """Prints. With very short jobs it counts what it leaves out instead of flooding the log; failures always show."""

    def __init__(self, run_paths: RunPaths, *, every_s: float = 30.0, out: TextIO | None = None) -> None:
        self._run_paths = run_paths
        self._every_s = every_s
        self._out = out
        self._now = self._at = self._last_progress = 0.0
        self._lines = 0
        self._omitted = 0
        self._trouble = ""
        self._said = Said()
        self._done = 0
        self._placements: dict[str, Mapping[str, Any]] = {}
        self._broken = False

    def start(self, view: RunView) -> None:
        self._now, self._at, state = view.now, view.at, view.state
        opened = state.opened
        where = f"{opened.backend} on {opened.host}" if opened else ""
        self._print(f"run {state.run_name}: {state.total} experiments, {where}, {self._run_paths.root}")
        self._done = state.count("Succeeded", "Failed", "Cancelled")
        if self._done or state.active:
            self._print(f"going on: {_counts(state)}")
        self._last_progress = view.at

    def update(self, events: Sequence[ev.Event], view: RunView) -> None:
        self._begin_second(view)
        for event in events:
            self._event(event, view.state)
        if view.trouble != self._trouble:
            self._trouble = view.trouble
            self._print(f"TROUBLE: {view.trouble}" if view.trouble else "the disk can be written again")
        # What holds starts up comes and goes with every job.
        if view.hold and view.state.draining is None and self._said.first(view.hold):
            self._print(f"waiting: {view.hold}")
        if view.at - self._last_progress >= self._every_s:
            self._last_progress = view.at
            self._said.forget()
            self._progress(view)

    def stop(self, view: RunView) -> None:
        self._tell_omitted()

    # ---- one line for each event ---------------------------------------------------------------------------

    def _event(self, event: ev.Event, state: RunState) -> None:
        """`state` is that after all new events, so what it was at this one is remembered here."""
        if isinstance(event, ev.AttemptSubmitted):
            if event.placement:
                self._placements[event.job] = event.placement
        elif isinstance(event, ev.AttemptStarted):
            self._started(event, state)
        elif isinstance(event, ev.AttemptEnded):
            self._ended(event, state)
        elif isinstance(event, ev.JobCancelled):
            self._done += state.jobs[event.job].planned
            if self._has_room():
                self._print(f"{self._head(state)} cancelled  {event.job}")
        elif isinstance(event, ev.JobRequeued):
            self._done -= state.jobs[event.job].planned
        else:
            self._other(event, state)

    def _other(self, event: ev.Event, state: RunState) -> None:
        """What happens seldom."""
        if isinstance(event, ev.RunDraining):
            self._print(_DRAINING[event.reason](state))
        elif isinstance(event, ev.PaceChanged):
            if event.paused is not None:
                self._print("launching paused" if event.paused else "launching resumed")
            if event.max_parallel is not None:
                self._print(f"at most {event.max_parallel} experiments side by side from now on")
        elif isinstance(event, ev.StopRequested) and event.reason in ("timeout", "stalled", "cancelled"):
            self._print(f"{self._head(state)} ending     {event.job} ({event.reason})")
        elif isinstance(event, ev.Note):
            where = f" {event.job}:" if event.job else ""
            self._print(f"{event.level}:{where} {event.text}")

    def _started(self, event: ev.AttemptStarted, state: RunState) -> None:
        placement = self._placements.pop(event.job, {})
        if self._has_room():
            label = Placement.from_json(placement).label
            where = f" on {label}" if label else ""
            attempt = f", attempt {event.attempt}" if event.attempt > 1 else ""
            self._print(f"{self._head(state)} started    {event.job}{attempt}{where}")

    def _ended(self, event: ev.AttemptEnded, state: RunState) -> None:
        if event.verdict in ("succeeded", "failed", "cancelled"):
            self._done += state.jobs[event.job].planned
        if event.verdict == "succeeded" and not self._has_room():
            return
        took = format_duration(event.duration_s)
        head = self._head(state)
        left = f", ended {event.leftovers} process(es) it left behind" if event.leftovers else ""
        if event.verdict == "succeeded":
            self._print(f"{head} succeeded  {event.job} in {took}{left}")
            return
        why = event.cause.summary if event.cause else ""
        paths = self._run_paths.job(event.job)
        log = f"log: {paths.attempt_log(event.attempt)}" if paths.has_log(event.attempt) else NO_LOG
        if event.verdict == "retry":
            wait = max(0.0, event.not_before - event.t)
            again = f"; again in {format_duration(wait)}" if wait else "; again at once"
            self._print(f"{head} failed     {event.job} after {took}: {why}{again} ({log}){left}")
        elif event.verdict == "failed":
            self._print(f"{head} FAILED     {event.job} after {took}: {why} ({log}){left}")
        elif event.verdict == "requeue":
            reason = f": {why}" if why else ""
            self._print(f"{head} to repeat  {event.job}{reason}{left}")
        else:
            self._print(f"{head} cancelled  {event.job} after {took}{left}")

    def _progress(self, view: RunView) -> None:
        state = view.state
        progress = running_progress(state, self._run_paths)
        fps = sum(said.fps or 0.0 for said in progress.values())
        guess = estimate(state, view.now, etas(progress, view.now))
        parts = [_counts(state)]
        if fps:
            parts.append(f"{fps:,.0f} frames/s")
        if guess is not None:
            parts.append(guess.text)
        self._print("progress: " + ", ".join(parts))

    # ---- output --------------------------------------------------------------------------------------------

    def _head(self, state: RunState) -> str:
        total = str(state.total)
        return f"[{self._done:{len(total)}}/{total}]"

    def _has_room(self) -> bool:
        """Whether one more line that may be left out is to be shown; counts it when not."""
        if self._lines < _LINES_PER_S:
            return True
        self._omitted += 1
        return False

    def _begin_second(self, view: RunView) -> None:
        if int(view.at) != int(self._at):
            self._lines = 0
            self._tell_omitted()
        self._now, self._at = view.now, view.at

    def _tell_omitted(self) -> None:
        if self._omitted:
            count, self._omitted = self._omitted, 0
            self._print(f"... and {count} lines more")

    def _print(self, text: str) -> None:
        self._lines += 1
        if self._broken:
            return
        stamp = time.strftime("%H:%M:%S", time.localtime(self._now))
        try:
            print(f"{stamp} {text}", file=self._out or sys.stdout, flush=True)
        except (OSError, ValueError):  # the terminal or pipe is gone; the run goes on
            self._broken = True


_DRAINING: dict[str, Callable[[RunState], str]] = {
    "interrupted": lambda s: f"nothing new is started; {len(s.active)} still running (Ctrl-C again ends them)",
    "terminated": lambda s: f"ending {len(s.active)} running experiments (Ctrl-C again kills them)",
    "killed": lambda s: f"killing {len(s.active)} running experiments",
    "max_failures": lambda s: f"nothing new is started; {len(s.active)} still running",
    "detached": lambda s: f"letting go; {len(s.active)} experiments go on running",
}


def _counts(state: RunState) -> str:
    parts = [f"{state.count('Succeeded')} of {state.total} succeeded"]
    for name, text in (("Failed", "failed"), ("Cancelled", "cancelled")):
        if state.count(name):
            parts.append(f"{state.count(name)} {text}")
    parts.append(f"{len(state.active) - state.num_queued} running")
    if state.num_queued:
        parts.append(f"{state.num_queued} queued")
    parts.append(f"{state.count('Waiting')} waiting")
    return ", ".join(parts)
