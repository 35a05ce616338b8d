"""Trainings as real commands, whose processes are all found and waited for."""

from __future__ import annotations

import os
import queue
import re
import select
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

TAG = "SF_TEST_TAG"

FORK_SETTINGS = """
import json

class Settings:
    def __init__(self, **fds):
        self.fds = fds
    def inherited_fds(self):
        return set(self.fds.values())
    def to_json(self):
        return json.dumps(self.fds)
"""
"""Part of scripts that fork: settings which are nothing but descriptors, by name."""


class TrainingCommand:
    """`python -m sf_algo.train_appo ...`, with a tag in its environment that all its descendants inherit."""

    def __init__(
        self,
        *flags: str,
        env: dict[str, str] | None = None,
        program: Sequence[str] = ("-m", "sf_algo.train_appo", "--algo=APPO"),
        cwd: Path | None = None,
    ) -> None:
        """`program`: what python runs, if not the trainer's own command."""
        self.tag = uuid.uuid4().hex
        self.lines: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, *program, *flags],
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(env or {}), TAG: self.tag, "OMP_NUM_THREADS": "1"},
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line.rstrip())
        self._queue.put(None)

    def __enter__(self) -> TrainingCommand:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, timeout_s: float = 90.0) -> str:
        """The next line of output that matches; fails at once when the command ends without it."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                line = self._queue.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {pattern!r} within {timeout_s:g} s:\n{self.text}") from None
            assert line is not None, f"the command ended without {pattern!r}:\n{self.text}"
            self.lines.append(line)
            if re.search(pattern, line):
                return line

    def finish(self, timeout_s: float = 90.0) -> int:
        """The exit code, once output and process have ended."""
        deadline = time.monotonic() + timeout_s
        while (line := self._queue.get(timeout=max(0.01, deadline - time.monotonic()))) is not None:
            self.lines.append(line)
        return self.process.wait(timeout=max(0.01, deadline - time.monotonic()))

    def ended_within(self, seconds: float) -> bool:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def pids(self, module: str = "") -> list[int]:
        """Living processes of this command whose command line or name has `module` in it."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                environment = (entry / "environ").read_bytes()
                names = (entry / "cmdline").read_bytes() + (entry / "comm").read_bytes()
            except (OSError, ValueError):
                continue
            if f"{TAG}={self.tag}".encode() in environment and module.encode() in names:
                found.append(int(entry.name))
        return found

    def wait_until_nothing_is_left(self, timeout_s: float = 20.0) -> None:
        """Waits for the end of every process of this command; fails when one stays."""
        deadline = time.monotonic() + timeout_s
        for pid in self.pids():
            try:
                fd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            left = max(0.0, deadline - time.monotonic())
            gone = bool(select.select([fd], [], [], left)[0])
            os.close(fd)
            assert gone, f"process {pid} is left: {Path(f'/proc/{pid}/cmdline').read_bytes()!r}"
        assert self.pids() == []
