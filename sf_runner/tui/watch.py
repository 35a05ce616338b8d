"""Looking at a run from another process: follows its journal, sends requests to its runner.

Survives whatever happens to the run: the runner killed and started again, the journal growing, the run ending.
"""

from __future__ import annotations

import os
import selectors
import signal
import time

from sf_runner.basics.clock import steady_s
from sf_runner.basics.paths import RunPaths
from sf_runner.engine.detached import DetachedRun
from sf_runner.engine.screen import RunView, Screen
from sf_runner.linux.signals import SignalInbox
from sf_runner.store.follower import JournalFollower
from sf_runner.store.lock import is_held
from sf_runner.tui.choose import make_screen
from sf_runner.tui.follow import GpuWatch, Liveness, RequestSender, runner_alive
from sf_runner.tui.live import LiveScreen

_TICK_S = 0.5
_PLAIN_EVERY_S = 30.0


def watch(paths: RunPaths, *, ui: str = "auto", parent_pid: int | None = None) -> int:
    """Show the run until the person leaves; without a full-screen UI, until no runner is at work on it.

    `parent_pid`: a process without which this one has no business being there. The exit code.
    """
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # giving the terminal back must work from the background too
    follower = JournalFollower(paths.journal)
    follower.catch_up()
    screen = make_screen(ui, paths, every_s=_PLAIN_EVERY_S, leader_pid=os.getpid(), mode="watch")
    watcher = _Watcher(paths, follower, screen)
    with SignalInbox() as signals, selectors.DefaultSelector() as selector:
        for fd in (signals.fd, *screen.fds()):
            selector.register(fd, selectors.EVENT_READ)
        try:
            watcher.start()
            while watcher.step() and not signals.take():
                if parent_pid is not None and os.getppid() != parent_pid:
                    break
                selector.select(_TICK_S)
        finally:
            watcher.stop()
    return 0


class _Watcher:
    """One step after the other: what happened, what was asked for, what was answered."""

    def __init__(self, paths: RunPaths, follower: JournalFollower, screen: Screen) -> None:
        self._follower = follower
        self._screen = screen
        self._live = screen if isinstance(screen, LiveScreen) else None
        self._liveness = Liveness(runner_alive, lambda: is_held(paths))
        self._sender = RequestSender(directory=paths.requests_dir)
        self._gpus = GpuWatch()
        self._detached = DetachedRun(paths)

    def start(self) -> None:
        self._screen.start(self._view())

    def stop(self) -> None:
        self._screen.stop(self._view())

    def step(self) -> bool:
        """Whether to go on."""
        events, replaced = self._follower.poll()
        now = steady_s()
        if self._live is not None:
            if replaced:
                self._live.state_replaced()
            for text in self._sender.replies(now):
                self._live.say(text, now)
            for request in self._live.requests():
                trouble = self._sender.send(request, now)
                self._live.say(trouble or "asked the runner ...", now)
        view = self._view()
        self._screen.update(events, view)
        if self._live is not None:
            return not self._live.closed
        goes_on = view.state.opened is not None and view.state.opened.records and view.state.active
        return bool(goes_on) or self._liveness.check(view.state, view.now, view.at) in ("live", "unknown")

    def _view(self) -> RunView:
        state, now, steady = self._follower.state, time.time(), steady_s()
        life = self._liveness.check(state, now, steady)
        if life in ("gone", "finished"):
            state = self._detached.state(state, now)
        if self._live is not None:
            self._live.set_life(life)
        gpus = self._gpus.read(state, life, steady)
        return RunView(now=now, steady=steady, state=state, gpus=gpus, trouble=self._follower.trouble)
