"""Programs on a pseudo-terminal of their own, and what it shows."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.runner.vt import Vt

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0

JOB = """
echo "hello from $1"
while [ ! -e "$2/go" ] && [ ! -e "$2/go.$1" ]; do sleep 0.05; done
[ "$1" = b ] && { echo "ValueError: b is broken" >&2; exit 3; }
echo "bye from $1"
"""


def prepare(folder: Path) -> list[str]:
    """A run of four jobs, two at a time, that wait for a file `go` (or `go.<name>`); b fails. Its command."""
    (folder / "job.sh").write_text(JOB)
    names = "".join(
        f'    Experiment("{name}", "sh {folder}/job.sh {name} {folder}", ParamGrid([("n", [1])])),\n' for name in "abcd"
    )
    (folder / "demo.py").write_text(
        "from sf_runner import Experiment, ParamGrid, RunDescription\n"
        f"RUN_DESCRIPTION = RunDescription('demo', experiments=[\n{names}], max_parallel=2,\n"
        "    experiment_arg_name='', experiment_dir_arg_name='', param_prefix='', customize_experiment_name=False)\n"
    )
    return [sys.executable, "-m", "sf_runner.run", f"--run={folder / 'demo.py'}", "--num_gpus=0", "--grace=1"]


class Pty:
    """A running program; `vt` is what its terminal shows. Used as a context manager it leaves nothing behind; with
    `keep_jobs`, the jobs that it has let go."""

    def __init__(
        self,
        argv: Sequence[str],
        folder: Path,
        *,
        size: tuple[int, int] = (100, 30),
        env: Mapping[str, str] | None = None,
        keep_jobs: bool = False,
    ) -> None:
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "LANG": "C.UTF-8", **(env or {})}
        for name in ("CI", "NO_COLOR", "LC_ALL", *(key for key in os.environ if key.startswith("SF_RUNNER_"))):
            if not env or name not in env:
                environ.pop(name, None)
        self.folder, self.keep_jobs = folder, keep_jobs
        self.vt = Vt(*size)
        self.raw = b""
        self.exit_code: int | None = None
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(folder)
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
                os.execvpe(argv[0], list(argv), environ)
            finally:
                os._exit(127)
        self.modes_before = self.modes()

    def __enter__(self) -> Pty:
        return self

    def __exit__(self, *_: object) -> None:
        if self.exit_code is None:
            for signum in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.kill(self.pid, signum)
                    self.wait_exit(10.0)
                    break
                except (TimeoutError, ProcessLookupError):
                    continue
        os.close(self.fd)
        if not self.keep_jobs:
            (self.folder / "go").touch()

    def modes(self) -> tuple[bool, bool, bytes]:
        """(line by line, echo, suspend character)"""
        attrs = termios.tcgetattr(self.fd)
        return bool(attrs[3] & termios.ICANON), bool(attrs[3] & termios.ECHO), attrs[6][termios.VSUSP]

    def send(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        self.vt = Vt(columns, rows)
        self.vt.modes |= {1049}
        self.vt.modes -= {7, 25}
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, timeout_s: float = 0.1) -> bool:
        """Take what the program wrote; False when there was nothing."""
        if not select.select((self.fd,), (), (), timeout_s)[0]:
            return False
        try:
            data = os.read(self.fd, 1 << 16)
        except OSError:  # the other side is closed
            return False
        self.raw += data
        self.vt.feed(data.replace(b"\x07", b""))
        return bool(data)

    def wait_for(self, shown: str | Callable[[Vt], bool], timeout_s: float = DEADLINE_S) -> None:
        """Until the terminal shows a text, or looks in some way."""
        deadline = time.monotonic() + timeout_s
        while True:
            if shown(self.vt) if callable(shown) else any(shown in line for line in self.vt.text()):
                return
            if time.monotonic() > deadline:
                screen = "\n".join(self.vt.text())
                raise TimeoutError(f"{shown!r} did not appear; the terminal shows\n{screen}")
            self.read()

    def wait_exit(self, timeout_s: float = DEADLINE_S) -> int:
        deadline = time.monotonic() + timeout_s
        while self.exit_code is None:
            self.read(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.exit_code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                raise TimeoutError("it does not end; the terminal shows\n" + "\n".join(self.vt.text()))
        while self.read(0.0):
            pass
        return self.exit_code

    def assert_given_back(self) -> None:
        """The terminal is as it was: modes, cursor, wrapping, normal screen."""
        assert self.modes() == self.modes_before
        assert not self.vt.on_alternate
        assert {7, 25} <= self.vt.modes
        assert 2004 not in self.vt.modes
