"""The full-screen UI on a real terminal: takes it, draws what is new, gives it back whatever happens."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace

from sf_runner.basics.clock import steady_s
from sf_runner.basics.paths import RunPaths
from sf_runner.basics.requests import Request
from sf_runner.engine.screen import RunView
from sf_runner.linux.output import flush_soon
from sf_runner.linux.terminal_state import in_foreground
from sf_runner.state import events as ev
from sf_runner.tui.app import App
from sf_runner.tui.keys import KeyParser
from sf_runner.tui.paint import Painter
from sf_runner.tui.plain import PlainScreen
from sf_runner.tui.terminal import StrayOutput, Terminal
from sf_runner.tui.theme import Theme
from sf_runner.tui.ui_state import Mode
from sf_runner.tui.view_model import Life

_MIN_INTERVAL_S = 0.25
_COST_SHARE = 0.02
"""Of one core: after a frame that was expensive to make, the next one waits."""
_REPAINT_S = 10.0
"""The whole screen is sent again now and then: something else may have written to the terminal."""
_ESCAPE_S = 0.025
_SUSPEND_S = 0.3
_ASIDE_S = 0.2
"""For what was printed to get where it belongs while standard output is another one."""
_NOTES_AT_END = 5


class LiveScreen:
    """Implements `Screen`. `leader_pid`: the process that the shell waits for and stops; while that one is in the
    background, the terminal is left alone.

    A fault of this code never reaches the run: the terminal is given back and plain lines take over.
    """

    def __init__(
        self,
        run_paths: RunPaths,
        terminal: Terminal,
        theme: Theme,
        *,
        mode: Mode,
        leader_pid: int,
        foreground: Callable[[int], bool] = in_foreground,
    ) -> None:
        self._paths = run_paths
        self._terminal = terminal
        self._mode: Mode = mode
        self._leader_pid = leader_pid
        self._foreground = foreground
        self._app = App(run_paths, theme, mode)
        self._painter = Painter(theme)
        self._parser = KeyParser()
        self._stray = StrayOutput(str(run_paths.runner_output))
        self._view: RunView | None = None
        self._plain: PlainScreen | None = None
        self._started_at = 0.0
        self._aside_until: float | None = None
        self._next_draw = self._next_repaint = 0.0
        self._pressed = False
        self._size = (0, 0)
        self.closed = False
        """Whether the person wants to leave (a watcher only)."""

    # ---- the Screen protocol -------------------------------------------------------------------------------

    def start(self, view: RunView) -> None:
        self._started_at = view.now
        self._safely(self._start, view)

    def update(self, events: Sequence[ev.Event], view: RunView) -> None:
        if self._plain is not None:
            self._plain.update(events, view)
            return
        self._view = view
        if events:
            self._safely(self._app.took, events, view)
        if self._pressed or steady_s() >= self._next_draw:
            self._safely(self._refresh, view)

    def fds(self) -> Sequence[int]:
        return (self._terminal.fd(),)

    def requests(self) -> Sequence[Request]:
        found: list[Request] = []
        if self._plain is None:
            self._safely(self._read_keys, found)
        return found

    def stop(self, view: RunView) -> None:
        if self._plain is not None:
            self._plain.stop(view)
        self._terminal.close()
        self._show_stray()
        for line in _closing_words(view, self._started_at, self._mode, self._paths):
            _print(line)

    # ---- for watchers --------------------------------------------------------------------------------------

    def set_life(self, life: Life) -> None:
        """Whether a runner is at work."""
        self._app.life = life

    def state_replaced(self) -> None:
        """The state is another one now, not just a later one."""
        self._app.replaced()

    def say(self, text: str, now: float) -> None:
        """Show a message for a moment. `now`: `RunView.at`."""
        self._app.say(text, now)
        self._next_draw = 0.0

    # ---- drawing -------------------------------------------------------------------------------------------

    def _start(self, view: RunView) -> None:
        self._view = view
        self._take_terminal()
        self._refresh(view)

    def _take_terminal(self) -> None:
        flush_soon(_ASIDE_S)
        self._stray.capture()
        self._terminal.enter()
        self._painter.forget()
        self._aside_until = None

    def _step_aside(self) -> None:
        self._terminal.leave()
        self._show_stray()
        self._aside_until = steady_s() + _SUSPEND_S

    def _refresh(self, view: RunView) -> None:
        now = steady_s()
        self._next_draw = now + _MIN_INTERVAL_S
        if self._aside_until is not None:
            if now < self._aside_until or not self._foreground(self._leader_pid):
                return
            self._take_terminal()
        elif not self._foreground(self._leader_pid):
            self._step_aside()
            return
        self._draw(view, now)

    def _draw(self, view: RunView, now: float) -> None:
        if self._terminal.lost or not self._terminal.flush():
            return  # the terminal has not taken the last frame yet
        began = time.thread_time()
        self._pressed = False
        size = self._terminal.size()
        if size != self._size or now >= self._next_repaint:
            self._size, self._next_repaint = size, now + _REPAINT_S
            self._painter.forget()
        columns, rows = size
        data = self._painter.paint(self._app.frame(view, columns, rows), columns)
        if data:
            self._terminal.send(data)
        self._next_draw = now + max(_MIN_INTERVAL_S, (time.thread_time() - began) / _COST_SHARE)

    # ---- keys ----------------------------------------------------------------------------------------------

    def _read_keys(self, found: list[Request]) -> None:
        view = self._view
        data = self._terminal.read()
        if self._terminal.resized:
            self._pressed = True
        if not data or view is None:
            return
        keys = self._parser.feed(data)
        while self._parser.waiting:  # the Escape key, or a sequence of which the rest is still on its way
            more = self._terminal.read(_ESCAPE_S)
            keys += self._parser.feed(more) if more else self._parser.flush()
        view = replace(view, now=time.time(), steady=steady_s())
        for key in keys:
            self._press(key, view, found)

    def _press(self, key: str, view: RunView, found: list[Request]) -> None:
        self._pressed = True
        outcome = self._app.press(key, view)
        found.extend(outcome.requests)
        self.closed = self.closed or outcome.leave
        if outcome.redraw:
            self._next_repaint = 0.0
        if outcome.suspend:
            self._suspend()

    def _suspend(self) -> None:
        """What Ctrl-Z does: the shell gets the terminal, and its process group stops. A runner itself goes on."""
        self._step_aside()
        if self._mode == "runner":
            _print("the run goes on behind this shell; fg brings its screen back")
        try:
            os.killpg(os.getpgid(self._leader_pid), signal.SIGTSTP)
        except OSError:
            pass

    # ---- faults --------------------------------------------------------------------------------------------

    def _safely(self, call: Callable[..., None], *args: object) -> None:
        try:
            call(*args)
        except Exception as exc:
            self._give_up(exc)

    def _give_up(self, fault: Exception) -> None:
        try:
            self._terminal.leave()
        finally:
            self._show_stray()
        traceback.print_exception(type(fault), fault, fault.__traceback__)
        _print(f"the full-screen UI failed ({type(fault).__name__}: {fault}); the run goes on with plain lines")
        self._plain = PlainScreen(self._paths)
        if self._view is not None:
            self._plain.start(self._view)

    def _show_stray(self) -> None:
        flush_soon(_ASIDE_S)
        text = self._stray.release()
        if text.strip():
            _print(text.rstrip("\n"))


def _closing_words(view: RunView, since: float, mode: Mode, run_paths: RunPaths) -> list[str]:
    """What must not vanish with the screen; the summary of the run is not our business."""
    state = view.state
    if mode == "watch":
        return []
    notes = [note for note in state.notes if note.t >= since and note.level != "info"][-_NOTES_AT_END:]
    lines = [f"{note.level}: {note.job + ': ' if note.job else ''}{note.text}" for note in notes]
    if state.draining is not None and state.draining.reason == "detached":
        waiting = state.count("Waiting")
        rest = f"; {waiting} waiting ones start when the same command is given again" if waiting else ""
        lines.append(f"detached: {len(state.active)} experiments go on{rest}")
        lines.append(f"look at them with: python -m sf_runner.status {run_paths.words} --watch")
    return lines


def _print(text: str) -> None:
    try:
        print(text, file=sys.stdout, flush=True)
    except OSError:  # the terminal is gone
        pass
