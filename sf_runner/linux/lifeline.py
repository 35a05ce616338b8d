"""The socket between guardian and runner: each learns from it that the other is gone."""

from __future__ import annotations

import atexit
import mmap
import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from sf_runner.linux.job_table import JobTable
from sf_runner.linux.output import flush_soon


@dataclass(kw_only=True)
class Lifeline:
    """The runner's end. `fd` becomes readable when the guardian is gone."""

    fd: int
    guardian: int
    """Pid of the guardian, which people know as the runner."""
    restarted: bool = False
    """Whether the guardian had to start the runner again."""
    held: Mapping[str, int] = field(default_factory=dict)
    """Attempts (their tags) of killed runners, whose parent is the guardian now -> pid of the main process."""
    table: JobTable | None = None
    """Where the guardian looks for the runner's jobs if the runner is killed."""
    _sock: socket.socket | None = field(default=None, repr=False)
    _named: mmap.mmap | None = field(default=None, repr=False)
    """Memory shared with runners that were killed and with those to come."""

    @property
    def run_name(self) -> str:
        """What the first runner called the run; empty: nobody has named it. A description may put the time into the
        name, and a runner that takes the place of another must go on with the same run."""
        return self._named[:].rstrip(b"\0").decode("utf-8", "surrogateescape") if self._named is not None else ""

    @run_name.setter
    def run_name(self, name: str) -> None:
        if self._named is not None:
            text = name.encode("utf-8", "surrogateescape")
            self._named[: len(text)] = text

    def let_go(self, code: int) -> None:
        """Have the command end with `code` now; this process goes on in the background, without the terminal."""
        if self._sock is not None:
            try:
                self._sock.send(f"{code}\n".encode())
            except OSError:
                pass
        detach_output()

    def is_cut(self) -> bool:
        """Whether the guardian is gone."""
        if self._sock is None:
            return False
        try:
            return self._sock.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) == b""
        except OSError:
            return False

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()


def detach_output() -> None:
    """Let go of the terminal, or of the pipe somebody reads: what they wait for is over."""
    flush_output()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


def flush_output() -> None:
    flush_soon()
    """Flush stdout and stderr; a closed or broken one is passed over."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass


def end_child(body: Callable[[], int]) -> NoReturn:
    """Call `body` in a process that was forked, and end the process with the exit code that it returns.

    Never raises: an exception, SystemExit too, would run on through the frames of the caller, in two processes. What
    the interpreter does at its end is done here: other threads are awaited, exit functions run, output is flushed.
    """
    code = 1
    try:
        code = body()
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
        if isinstance(exc.code, str):
            print(exc.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        atexit._run_exitfuncs()
        flush_output()
        os._exit(code)
