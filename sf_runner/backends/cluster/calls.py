"""Calls of a cluster's command line: made in the background, and made ever more seldom while they fail."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from sf_runner.backends.background_calls import BackgroundCalls
from sf_runner.backends.cluster.answers import shorten
from sf_runner.basics.backoff import doubled
from sf_runner.basics.clock import steady_s
from sf_runner.linux.wake_pipe import WakePipe

_MAX_OUTPUT_BYTES = 256 << 20
_LONGEST_PAUSE_S = 300.0
_HOPELESS = (errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.E2BIG)


@dataclass(frozen=True, kw_only=True)
class CallResult:
    """How a command ended.

    code: None: it took too long and was killed, or never started. began: by the steady clock.
    unstarted: why it could not be started. hopeless: trying to start it again cannot help.
    """

    code: int | None
    began: float
    output: str = ""
    errors: str = ""
    unstarted: str = ""
    hopeless: bool = False

    @property
    def ok(self) -> bool:
        return self.code == 0

    def passes(self, transient: re.Pattern[str]) -> bool:
        """Whether it failed for a reason that should pass by itself."""
        return self.code is None or (self.code != 0 and bool(transient.search(f"{self.errors}\n{self.output}")))

    @property
    def said(self) -> str:
        """Why it failed, in its own words, on one line."""
        if self.unstarted:
            return self.unstarted
        if self.code is None:
            return "no answer in time"
        how = f"exit code {self.code}" if self.code >= 0 else f"ended by signal {-self.code}"
        words = shorten(self.errors) or shorten(self.output)
        return f"{words} ({how})" if words else how


class Commands:
    """Runs commands, up to `at_a_time` of them side by side, and hands their results to callbacks inside `collect`.

    Each is in a session of its own: a Ctrl-C at the terminal does not reach it, and it ends its work without us.
    `timeout_s`: a command that takes longer is killed.
    """

    def __init__(self, timeout_s: float, at_a_time: int) -> None:
        self._timeout_s = timeout_s
        self._wake = WakePipe()
        self._calls = BackgroundCalls(self._wake, threads=at_a_time)

    @property
    def fd(self) -> int:
        """Becomes readable when `collect` has something to hand on."""
        return self._wake.fd

    def start(
        self, argv: Sequence[str], then: Callable[[CallResult], None], env: Mapping[str, str] | None = None
    ) -> None:
        """Run it; `env` is added to our environment."""
        self._calls.ask(lambda: _run(argv, {**os.environ, **(env or {})}, self._timeout_s), then)

    def collect(self) -> None:
        self._wake.drain()
        self._calls.collect()

    def close(self, *, wait: bool) -> None:
        """Let go of commands that still run; with `wait`, take the results of all of them first. Blocks until then."""
        if self._calls.close(None if wait else 0.0):
            self._wake.close()
        if wait:
            self._calls.collect()


def _run(argv: Sequence[str], env: Mapping[str, str], timeout_s: float) -> CallResult:
    """Blocks until it has ended."""
    began = steady_s()
    try:
        # Files, not pipes: what a command leaves behind in the background could hold a pipe open for ever.
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                list(argv), stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=env, start_new_session=True
            )
            code: int | None
            try:
                code = process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                code = None
            return CallResult(code=code, began=began, output=_text(output), errors=_text(errors))
    except OSError as exc:
        missing = exc.errno == errno.ENOENT
        why = f"program '{argv[0]}' was not found on PATH" if missing else f"'{argv[0]}': {exc.strerror}"
        return CallResult(code=None, began=began, unstarted=why, hopeless=exc.errno in _HOPELESS)
    except ValueError as exc:  # a word with a zero byte in it
        return CallResult(code=None, began=began, unstarted=f"'{argv[0]}': {exc}", hopeless=True)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(_MAX_OUTPUT_BYTES).decode("utf-8", "replace")


class Pause:
    """While one kind of command fails: wait ever longer, and tell of it once.

    failing, again: what is told when it begins to fail, and when it succeeds again. first_s: the first pause.
    until: time of the steady clock before which none should be started.
    """

    def __init__(self, failing: str, again: str, first_s: float, tell: Callable[[str], None]) -> None:
        self._failing, self._again = failing, again
        self._first_s = first_s
        self._tell = tell
        self._failures = 0
        self.until = 0.0

    def failed(self, now: float, said: str) -> None:
        """A command failed in a way that should pass. Those that ran side by side count as one."""
        if now < self.until:
            return
        self.until = now + doubled(self._first_s, self._failures, _LONGEST_PAUSE_S)
        self._failures += 1
        if self._failures == 1:
            self._tell(f"{self._failing}: {said}; submitted jobs go on, trying again ever later")

    def answered(self) -> None:
        if self._failures:
            self._tell(self._again)
        self._failures, self.until = 0, 0.0
