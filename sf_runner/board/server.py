"""A tensorboard process: start it, read what it says, end it with everything it started."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sf_runner.basics.errors import BackendError
from sf_runner.board import child
from sf_runner.board.link_tree import Workspace

_URL = re.compile(r"\bTensorBoard \S+ at (https?://\S+)")
_PORT = re.compile(r":(\d+)/?\Z|:(\d+)/")
_STOP_GRACE_S = 5.0
_STOP_POLL_S = 0.01
_LINES_KEPT = 30
_NOISE = re.compile(
    r"TensorFlow installation not found|^NOTE: Using experimental fast data|TensorBoard caught SIGTERM|"
    r"^Serving TensorBoard on localhost; to expose|^\s*$|github\.com/tensorflow/tensorboard/issues|"
    r"--load_fast=false\" and report issues|pkg_resources is deprecated|import pkg_resources"
)


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Flags handed to tensorboard. `port` 0: any free one; `more`: arguments passed as they are."""

    port: int
    host: str | None = None
    bind_all: bool = False
    reload_interval_s: int = 60
    load_fast: str = "auto"
    more: tuple[str, ...] = ()


def tensorboard_arguments(options: ServerOptions, logdir: Path, port: int) -> list[str]:
    """Tensorboard's command line without the program."""
    arguments = [
        f"--logdir={logdir}",
        f"--port={port}",
        f"--reload_interval={options.reload_interval_s}",
        f"--load_fast={options.load_fast}",
    ]
    if options.bind_all:
        arguments.append("--bind_all")
    if options.host is not None:
        arguments.append(f"--host={options.host}")
    return [*arguments, *options.more]


class Tensorboard:
    """Context manager around one process in a session of its own. Once it has told its URL, a restart keeps the
    port."""

    def __init__(self, options: ServerOptions, workspace: Workspace) -> None:
        self._options = options
        self._workspace = workspace
        self._port = options.port
        self._last_lines: deque[str] = deque(maxlen=_LINES_KEPT)
        self._partial = b""
        self._process: subprocess.Popen[bytes] | None = None
        self.url: str | None = None
        self.at_eof = False

    def __enter__(self) -> Tensorboard:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """BackendError when no process can be started. Whether it serves is told by `read`."""
        arguments = tensorboard_arguments(self._options, self._workspace.runs, self._port)
        self.url, self._partial, self.at_eof = None, b"", False
        self._last_lines.clear()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-X", "utf8", str(child.__file__), str(self._workspace.root), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TMPDIR": str(self._workspace.tmp), "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        except OSError as exc:
            raise BackendError(f"tensorboard cannot be started: {exc}") from exc
        os.set_blocking(self.fd, False)

    @property
    def fd(self) -> int:
        """Readable when there is output, or, until `at_eof`, the end of it."""
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def read(self) -> list[str]:
        """New lines of output that are worth showing; notes the URL once it is told."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.fd, 1 << 16):
                self._partial += data
            self.at_eof = True
        *lines, self._partial = self._partial.split(b"\n")
        shown = []
        for line in (raw.decode(errors="replace").rstrip() for raw in lines):
            if found := _URL.search(line):
                self.url = found[1]
                if port := _PORT.search(self.url):
                    self._port = int(port[1] or port[2])
            elif not _NOISE.search(line):
                self._last_lines.append(line)
                shown.append(line)
        return shown

    @property
    def has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def failure(self) -> BackendError:
        """Why it ended by itself, in one line."""
        assert self._process is not None
        self.read()
        code = self._process.returncode
        said = " ".join(self._last_lines)
        if "already in use" in said:
            return BackendError(f"--port={self._port} is in use; give another one, or --port=0 for any that is free")
        if "No module named" in said:
            return BackendError(f"tensorboard cannot start: {self._last_lines[-1]}; pip install -U tensorboard")
        how = f"was ended by signal {-code}" if code and code < 0 else f"ended with exit code {code}"
        last = f": {self._last_lines[-1]}" if self._last_lines else ""
        return BackendError(f"tensorboard {how}{last}")

    def stop(self) -> None:
        """End it and everything it started. Idempotent."""
        process = self._process
        if process is None:
            return
        self._process = None
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        # Not reaped before its group is ended: the number is nobody else's until then.
        deadline = time.monotonic() + _STOP_GRACE_S
        while process.returncode is None and not _has_ended(process.pid) and time.monotonic() < deadline:
            time.sleep(_STOP_POLL_S)
        # What is left is the data server, or a tensorboard that hangs.
        if process.returncode is None or not Path(f"/proc/{process.pid}").exists():  # else it is another one's number
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def _has_ended(pid: int) -> bool:
    """Whether a child that was not waited for has ended."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def forwarding_hint(url: str, environment: Sequence[str] | None = None) -> str | None:
    """How to see a tensorboard on this machine from the one somebody logged in from; None when it can be seen."""
    names = os.environ if environment is None else environment
    port = _PORT.search(url)
    if "SSH_CONNECTION" not in names or port is None or "localhost" not in url:
        return None
    number = port[1] or port[2]
    host = os.uname().nodename
    return f"from your own machine: ssh -L {number}:localhost:{number} {host}   (or start with --bind_all)"
