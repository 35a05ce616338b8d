"""What a screen gets to see of a running run, and what it may ask for. Keeps `tui` and `run_loop` apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sf_runner.basics.requests import Request
from sf_runner.slots.devices import GpuSnapshot
from sf_runner.state.events import Event
from sf_runner.state.fold import RunState


@dataclass(frozen=True, kw_only=True)
class RunView:
    """One moment of a run, `now` in unix time.

    hold: why no further job is being started, in plain words; empty when one could be."""

    now: float
    state: RunState
    gpus: GpuSnapshot
    hold: str = ""
    steady: float | None = None
    """The same moment by the steady clock; None: `now` is steady."""
    trouble: str = ""
    """Something that keeps the run from going on, e.g. a full disk; empty when there is nothing."""

    @property
    def at(self) -> float:
        """For what lasts a while on the screen, and for what is looked at now and then: it never jumps."""
        return self.now if self.steady is None else self.steady


class Screen(Protocol):
    """Shows a run. Never raises for what it is shown; costs nothing when nothing happens."""

    def start(self, view: RunView) -> None:
        """Take the terminal."""
        return

    def update(self, events: Sequence[Event], view: RunView) -> None:
        """Called after every step of the run loop; `events` is what happened in it, already folded into the state."""
        return

    def fds(self) -> Sequence[int]:
        """File descriptors (keyboard) that should wake the run loop."""

    def requests(self) -> Sequence[Request]:
        """What the person at the keyboard asked for since."""

    def stop(self, view: RunView) -> None:
        """Give the terminal back, whatever happened."""
        return
