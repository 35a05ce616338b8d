"""Signals as data: counted when they arrive, read by the run loop, which they wake."""

from __future__ import annotations

import signal
from types import FrameType

from sf_runner.basics.clock import steady_s
from sf_runner.linux.wake_pipe import WakePipe

_ONE_TERM_S = 0.5
"""Who ends a whole tree of processes signals the runner and its guardian, which passes it on."""
_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class SignalInbox:
    """Context manager: inside it SIGINT, SIGTERM and SIGHUP are collected instead of acted on.

    A SIGHUP that was ignored when the program started (nohup) stays ignored. Those that were blocked so far, because
    nobody would have listened, arrive now.
    """

    def __init__(self) -> None:
        self._pending: list[int] = []
        self._rung = False
        self._old: dict[int, object] = {}
        self._termed_at = float("-inf")

    def __enter__(self) -> SignalInbox:
        self._wake = WakePipe()
        self.fd = self._wake.fd
        for signum in _HANDLED:
            if signum == signal.SIGHUP and signal.getsignal(signum) == signal.SIG_IGN:
                continue
            self._old[signum] = signal.signal(signum, self._arrived)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
        return self

    def __exit__(self, *error: object) -> None:
        for signum, handler in self._old.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]
        self._wake.close()

    def _arrived(self, signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGTERM:
            now = steady_s()
            if now < self._termed_at + _ONE_TERM_S:
                return
            self._termed_at = now
        self._pending.append(signum)
        self._rung = True
        self._wake.ring()

    def take(self) -> list[int]:
        """Signals that arrived since, in order."""
        if not self._rung:
            return []
        self._rung = False  # before the pipe is emptied: what arrives meanwhile rings again
        self._wake.drain()
        pending, self._pending = self._pending, []
        return pending
