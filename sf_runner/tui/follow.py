"""What a process beside the runner needs to follow a run and to speak to its runner."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sf_runner.basics.clock import boot_id
from sf_runner.basics.errors import SfRunnerError
from sf_runner.basics.requests import Request, read_reply, send
from sf_runner.linux.process_tools import is_alive
from sf_runner.slots.devices import GpuSnapshot
from sf_runner.slots.probe import GpuProbe
from sf_runner.state import events as ev
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import ACTIVE
from sf_runner.tui.view_model import Life

_GPU_EVERY_S = 1.0
_LIFE_EVERY_S = 1.0
_GONE_AFTER_S = 3.0
"""A runner that was killed is started again within a second or so by its guardian; no alarm before that."""
_LOCK_EVERY_S = 15.0
_STALE_S = 3600.0
_REPLY_S = 15.0


class Liveness:
    """Whether a runner is at work on a run.

    `alive(opened)`: whether the process of that runner lives, None where that cannot be told. `held()`: whether the
    run's lock is held; asked for runs of other machines only and seldom, because to find out the lock is taken for a
    moment, which could turn away a runner that is just starting.
    """

    def __init__(self, alive: Callable[[ev.RunOpened], bool | None], held: Callable[[], bool]) -> None:
        self._alive, self._held = alive, held
        self._checked_at = self._seen_at = self._lock_read_at = self._grown_at = float("-inf")
        self._last_event_at: float | None = None
        self._opened: ev.RunOpened | None = None
        self._life: Life = "gone"
        self._lock_held = False

    def check(self, state: RunState, now: float, steady: float) -> Life:
        """Looks at the process at most once a second, by the steady clock."""
        if state.last_event_at != self._last_event_at:
            self._grown_at = float("-inf") if self._last_event_at is None else steady
            self._last_event_at = state.last_event_at
        if state.closed is not None:
            detached = state.draining is not None and state.draining.reason == "detached"
            return "gone" if detached and state.active else "finished"
        if state.opened is None:
            return "gone"
        if state.opened is not self._opened or steady - self._checked_at >= _LIFE_EVERY_S:
            self._opened, self._checked_at = state.opened, steady
            alive = self._alive(state.opened)
            if alive:
                self._seen_at = steady
            lately = steady - self._seen_at < _GONE_AFTER_S
            self._life = self._elsewhere(state, now, steady) if alive is None else "live" if lately else "gone"
        return self._life

    def _elsewhere(self, state: RunState, now: float, steady: float) -> Life:
        """A lock that is not held says little on some network file systems; then it decides how long nothing was added
        to the journal: what we saw of that, before it the journal's last time, by the clock of that machine."""
        if steady - self._lock_read_at >= _LOCK_EVERY_S:
            self._lock_read_at = steady
            self._lock_held = self._held()
        if self._lock_held:
            return "live"
        lately = steady - self._grown_at < _STALE_S or now - state.last_event_at < _STALE_S
        return "unknown" if lately else "gone"


def runner_alive(opened: ev.RunOpened) -> bool | None:
    """None: it runs on another machine."""
    if opened.host != socket.gethostname():
        return None
    return is_alive({"pid": opened.pid, "up": opened.up, "boot": opened.boot_id}, boot_id())


@dataclass(kw_only=True)
class RequestSender:
    """Takes requests to the runner and brings its answers, without waiting for them."""

    directory: Path
    _sent: list[tuple[Path, float]] = field(default_factory=list)

    def send(self, request: Request, now: float) -> str:
        """Leave it for the runner; why that was not possible, or empty."""
        try:
            self._sent.append((send(self.directory, request), now))
        except SfRunnerError as exc:
            return str(exc)
        return ""

    def replies(self, now: float) -> list[str]:
        """What the runner has answered since. A request that nobody takes is withdrawn after a while."""
        texts, waiting = [], []
        for path, sent_at in self._sent:
            text = read_reply(path)
            if text is not None:
                texts.append(text)
            elif now - sent_at < _REPLY_S:
                waiting.append((path, sent_at))
            else:
                path.unlink(missing_ok=True)
                texts.append(f"the runner did not answer within {_REPLY_S:.0f} s; is it stopped (state T in ps)?")
        self._sent = waiting
        return texts


class GpuWatch:
    """The GPUs of this machine, asked for only while the run has work on some."""

    def __init__(self) -> None:
        self._probe: GpuProbe | None = None
        self._read_at = float("-inf")
        self._last = GpuSnapshot()

    def read(self, state: RunState, life: Life, now: float) -> GpuSnapshot:
        """Old values while no job holds a GPU; nothing once no runner is at work here."""
        if life != "live" or not is_here(state):
            self._last = GpuSnapshot()
        elif now - self._read_at >= _GPU_EVERY_S and _uses_gpus(state):
            self._read_at = now
            self._last = self._ask()
        return self._last

    def _ask(self) -> GpuSnapshot:
        if self._probe is None:
            from sf_runner.slots.nvml import NvmlProbe  # for runs on GPUs only

            self._probe = GpuProbe(NvmlProbe())
        return self._probe.snapshot()


def is_here(state: RunState) -> bool:
    """Whether its jobs run on this machine."""
    opened = state.opened
    return opened is not None and bool(opened.local) and opened.host == socket.gethostname()


def _uses_gpus(state: RunState) -> bool:
    return any(isinstance(r.state, ACTIVE) and r.state.placement.get("gpu_uuids") for r in state.active.values())
