"""Plain lines for pipes, files and CI: one for each thing that happened, a summary of the state now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from sf_runner import events as ev
from sf_runner.estimate import estimate, format_duration
from sf_runner.paths import RunPaths
from sf_runner.placement import Placement
from sf_runner.progress import read_progress
from sf_runner.requests import Request
from sf_runner.run_state import RunState
from sf_runner.run_view import RunView

_LINES_PER_S = 20


class PlainScreen:
    """Prints. With very short jobs it counts what it leaves out instead of flooding the log; failures always show."""

    def __init__(self, run_paths: RunPaths, *, every_s: float = 30.0, out: TextIO | None = None) -> None:
        self._run_paths = run_paths
        self._every_s = every_s
        self._out = out
        self._last_progress = 0.0
        self._second = 0
        self._lines = 0
        self._omitted = 0
        self._trouble = ""
        self._hold = ""
        self._broken = False

    def start(self, view: RunView) -> None:
        state = view.state
        opened = state.opened
        where = f"{opened.backend} on {opened.host}" if opened else ""
        self._print(f"run {state.run_name}: {state.total} experiments, {where}, {self._run_paths.root}")
        done = state.count("Succeeded")
        if done or state.active or state.count("Failed", "Cancelled"):
            self._print(f"going on: {_counts(state)}")
        self._last_progress = view.now

    def update(self, events: Sequence[ev.Event], view: RunView) -> None:
        for event in events:
            self._event(event, view.state)
        if view.trouble != self._trouble:
            self._trouble = view.trouble
            self._print(f"TROUBLE: {view.trouble}" if view.trouble else "the disk can be written again")
        if view.hold != self._hold:
            self._hold = view.hold
            if view.hold and view.state.draining is None:
                self._print(f"waiting: {view.hold}")
        if view.now - self._last_progress >= self._every_s:
            self._last_progress = view.now
            self._progress(view)

    def fds(self) -> Sequence[int]:
        return ()

    def requests(self) -> Sequence[Request]:
        return ()

    def stop(self, view: RunView) -> None:
        self._flush_omitted()

    # ---- one line for each event ---------------------------------------------------------------------------

    def _event(self, event: ev.Event, state: RunState) -> None:
        if isinstance(event, ev.AttemptStarted):
            record = state.jobs[event.job]
            placement = Placement.from_json(getattr(record.state, "placement", {})) if record.state else None
            label = f" on {placement.label}" if placement is not None and placement.label else ""
            attempt = f", attempt {event.attempt}" if event.attempt > 1 else ""
            self._print(f"{_done(state)} started    {event.job}{attempt}{label}", optional=True)
        elif isinstance(event, ev.AttemptEnded):
            self._ended(event, state)
        elif isinstance(event, ev.JobCancelled):
            self._print(f"{_done(state)} cancelled  {event.job}", optional=True)
        elif isinstance(event, ev.RunDraining):
            self._print(_DRAINING[event.reason](state))
        elif isinstance(event, ev.LaunchingChanged):
            if event.paused is not None:
                self._print("launching paused" if event.paused else "launching resumed")
            if event.max_parallel is not None:
                self._print(f"at most {event.max_parallel} experiments side by side from now on")
        elif isinstance(event, ev.StopRequested) and event.reason in ("timeout", "stalled", "cancelled"):
            self._print(f"{_done(state)} ending     {event.job} ({event.reason})")
        elif isinstance(event, ev.Note):
            where = f" {event.job}:" if event.job else ""
            self._print(f"{event.level}:{where} {event.text}")

    def _ended(self, event: ev.AttemptEnded, state: RunState) -> None:
        took = format_duration(event.duration_s)
        head = _done(state)
        left = f", ended {event.leftovers} process(es) it left behind" if event.leftovers else ""
        if event.verdict == "succeeded":
            self._print(f"{head} succeeded  {event.job} in {took}{left}", optional=True)
            return
        why = event.cause.summary if event.cause else ""
        log = self._run_paths.job(event.job).attempt_log(event.attempt)
        if event.verdict == "retry":
            wait = max(0.0, event.not_before - event.t)
            again = f"; again in {format_duration(wait)}" if wait else "; again at once"
            self._print(f"{head} failed     {event.job} after {took}: {why}{again} (log: {log}){left}")
        elif event.verdict == "failed":
            self._print(f"{head} FAILED     {event.job} after {took}: {why} (log: {log}){left}")
        elif event.verdict == "requeue":
            reason = f": {why}" if why else ""
            self._print(f"{head} to repeat  {event.job}{reason}{left}")
        else:
            self._print(f"{head} cancelled  {event.job} after {took}{left}")

    def _progress(self, view: RunView) -> None:
        state = view.state
        etas, fps = {}, 0.0
        for job in state.active:
            progress = read_progress(self._run_paths.job(job).progress)
            if progress is not None:
                fps += progress.fps or 0.0
                if progress.eta_s is not None:
                    etas[job] = progress.eta_s
        guess = estimate(state, view.now, etas)
        parts = [_counts(state)]
        if fps:
            parts.append(f"{fps:,.0f} frames/s")
        if guess is not None:
            parts.append(guess.text)
        self._print("progress: " + ", ".join(parts))

    # ---- output --------------------------------------------------------------------------------------------

    def _print(self, text: str, *, optional: bool = False) -> None:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._lines = second, 0
            self._flush_omitted()
        self._lines += 1
        if optional and self._lines > _LINES_PER_S:
            self._omitted += 1
            return
        self._write(f"{time.strftime('%H:%M:%S')} {text}")

    def _flush_omitted(self) -> None:
        if self._omitted:
            count, self._omitted = self._omitted, 0
            self._write(f"{time.strftime('%H:%M:%S')} ... and {count} lines more")

    def _write(self, text: str) -> None:
        if self._broken:
            return
        try:
            print(text, file=self._out or sys.stdout, flush=True)
        except OSError:  # the terminal or pipe is gone; the run goes on
            self._broken = True


class SilentScreen:
    """Shows nothing (`--ui=none`)."""

    def start(self, view: RunView) -> None:
        return

    def update(self, events: Sequence[ev.Event], view: RunView) -> None:
        return

    def fds(self) -> Sequence[int]:
        return ()

    def requests(self) -> Sequence[Request]:
        return ()

    def stop(self, view: RunView) -> None:
        return


_DRAINING: dict[str, Callable[[RunState], str]] = {
    "interrupted": lambda s: f"nothing new is started; {len(s.active)} still running (Ctrl-C again ends them)",
    "terminated": lambda s: f"ending {len(s.active)} running experiments (Ctrl-C again kills them)",
    "killed": lambda s: f"killing {len(s.active)} running experiments",
    "max_failures": lambda s: f"nothing new is started; {len(s.active)} still running",
    "detached": lambda s: f"letting go; {len(s.active)} experiments go on running",
}


def _done(state: RunState) -> str:
    ended = state.count("Succeeded", "Failed", "Cancelled")
    width = len(str(state.total))
    return f"[{ended:{width}}/{state.total}]"


def _counts(state: RunState) -> str:
    parts = [f"{state.count('Succeeded')} of {state.total} succeeded"]
    for name, text in (("Failed", "failed"), ("Cancelled", "cancelled")):
        if state.count(name):
            parts.append(f"{state.count(name)} {text}")
    parts.append(f"{len(state.active)} running")
    parts.append(f"{state.count('Waiting')} waiting")
    return ", ".join(parts)
