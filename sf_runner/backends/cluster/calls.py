"""Calls of a cluster's command line: processes that nobody waits for, so that the run loop never blocks."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from sf_runner.backends.cluster.answers import shorten
from sf_runner.basics.clock import steady_s

_POLL_S = 0.05
"""Where the kernel has no pidfds."""
_MAX_OUTPUT_BYTES = 256 << 20


@dataclass(frozen=True, kw_only=True)
class CallResult:
    """How a call ended. `code` None: it took too long and was killed."""

    code: int | None
    output: str
    errors: str
    began: float
    """By the steady clock."""

    @property
    def ok(self) -> bool:
        return self.code == 0

    @property
    def text(self) -> str:
        """All that it printed."""
        return f"{self.errors}\n{self.output}"

    @property
    def said(self) -> str:
        """Why it failed, in its own words, on one line."""
        if self.code is None:
            return "no answer in time"
        how = f"exit code {self.code}" if self.code >= 0 else f"ended by signal {-self.code}"
        words = shorten(self.errors) or shorten(self.output)
        return f"{words} ({how})" if words else how


@dataclass(kw_only=True)
class _Call:
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    errors: IO[bytes]
    began: float
    deadline: float
    then: Callable[[CallResult], None]
    pidfd: int | None = None
    killed: bool = field(default=False)


class Calls:
    """Starts commands and hands their results to callbacks, which run inside `poll`.

    Each is in a session of its own: a Ctrl-C at the terminal does not reach it. `timeout_s`: after it a call is killed.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._selector = selectors.DefaultSelector()
        self._calls: list[_Call] = []
        self._environ = dict(os.environ)

    @property
    def fd(self) -> int:
        """Becomes readable when a call has ended."""
        return self._selector.fileno()  # epoll and kqueue selectors both have one

    @property
    def busy(self) -> bool:
        return bool(self._calls)

    def start(self, argv: Sequence[str], then: Callable[[CallResult], None], env: Mapping[str, str]) -> None:
        """Run it; `env` is added to our environment. OSError when there is no such program."""
        # Files, not pipes: an answer of any length never blocks the command, and nobody has to read along.
        output, errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env={**self._environ, **env},
                start_new_session=True,
            )
        except BaseException:
            output.close()
            errors.close()
            raise
        now = steady_s()
        call = _Call(
            process=process, output=output, errors=errors, began=now, deadline=now + self._timeout_s, then=then
        )
        with contextlib.suppress(OSError, AttributeError):
            call.pidfd = os.pidfd_open(process.pid)
            self._selector.register(call.pidfd, selectors.EVENT_READ)
        self._calls.append(call)

    def poll(self, now: float) -> None:
        """Take the results of those that have ended; end those that take too long."""
        for call in list(self._calls):
            if call.process.poll() is not None:
                self._calls.remove(call)
                result = _result(call)
                self._release(call)
                call.then(result)
            elif now >= call.deadline and not call.killed:
                call.killed = True
                with contextlib.suppress(OSError):
                    os.killpg(call.process.pid, signal.SIGKILL)

    def next_wake(self) -> float | None:
        """When, by the steady clock, `poll` has something to do even if nothing ends."""
        if any(call.pidfd is None or call.killed for call in self._calls):
            return steady_s() + _POLL_S
        return min((call.deadline for call in self._calls), default=None)

    def wait(self) -> None:
        """Block until every call has ended and its result was taken."""
        while self._calls:
            wake = self.next_wake()
            self._selector.select(None if wake is None else max(0.0, wake - steady_s()))
            self.poll(steady_s())

    def close(self) -> None:
        """Forget calls that still run; they end by themselves."""
        for call in self._calls:
            self._release(call)
            call.process.returncode = call.process.returncode or 0  # it is nobody's to wait for any more
        self._calls.clear()
        self._selector.close()

    def _release(self, call: _Call) -> None:
        if call.pidfd is not None:
            self._selector.unregister(call.pidfd)
            os.close(call.pidfd)
        call.output.close()
        call.errors.close()


def _result(call: _Call) -> CallResult:
    return CallResult(
        code=None if call.killed else call.process.returncode,
        output=_text(call.output),
        errors=_text(call.errors),
        began=call.began,
    )


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(_MAX_OUTPUT_BYTES).decode("utf-8", "replace")
