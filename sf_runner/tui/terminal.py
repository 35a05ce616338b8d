"""The terminal while a full-screen UI has it: modes, keys in, frames out. Nothing here ever blocks for long."""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import signal
import termios
import time
from collections.abc import Sequence

from sf_runner.linux.output import print_later
from sf_runner.linux.terminal_state import ENTER_SCREEN, LEAVE_SCREEN, SavedTerminal, key_mode, start_output
from sf_runner.linux.wake_pipe import WakePipe

_READ = 4096
_LAST_WORDS_S = 1.0


class Terminal:
    """Opens the terminal a second time for itself: that descriptor can be made non-blocking without the shell and
    other programs noticing, so that a terminal that hangs (Ctrl-S, a dead connection) never holds up the run.

    `lost` is set when the terminal has gone away; everything is a no-op from then on. Keys may be refused earlier (a
    background process without a parent may not read): `deaf`.
    """

    def __init__(self, saved: SavedTerminal) -> None:
        self._saved = saved
        self._in_fd, self._out_fd, self._shared = _open_own(saved)
        self._unsent = b""
        self._wake = WakePipe()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake.fd, selectors.EVENT_READ)
        self._old_handler: object = None
        self.active = False
        self.lost = self.deaf = False
        self.resized = False

    def fd(self) -> int:
        """Becomes readable when a key was pressed or the size changed. The same one for good."""
        return self._selector.fileno()

    # ---- taking and giving back ----------------------------------------------------------------------------

    def enter(self) -> None:
        """Take the terminal."""
        if self.active or self.lost:
            return
        try:
            termios.tcsetattr(self._saved.in_fd, termios.TCSANOW, key_mode(self._saved.attrs))
        except (OSError, termios.error):
            self.lost = True
            return
        self.active = self.resized = True
        self.deaf = False
        self._selector.register(self._in_fd, selectors.EVENT_READ)
        if self._old_handler is None:
            self._old_handler = signal.signal(signal.SIGWINCH, self._size_changed) or signal.SIG_DFL
        self._unsent = b""
        self.send(ENTER_SCREEN)

    def leave(self) -> None:
        """Give it back as it was."""
        if not self.active:
            return
        self.active = False
        with contextlib.suppress(KeyError):
            self._selector.unregister(self._in_fd)
        if self.lost:
            return
        taken = self._saved.is_taken()
        if taken:
            with contextlib.suppress(OSError, termios.error):
                start_output(self._saved.in_fd)
        self._unsent += LEAVE_SCREEN
        deadline = time.monotonic() + _LAST_WORDS_S
        while not (done := self.flush()) and time.monotonic() < deadline:
            select.select((), (self._out_fd,), (), 0.1)
        if not done and print_later(LEAVE_SCREEN.decode()):
            self._unsent = b""
        if taken:
            self._saved.restore_modes()

    def close(self) -> None:
        """Leave, and let go of every descriptor."""
        self.leave()
        if self._old_handler is not None:
            signal.signal(signal.SIGWINCH, self._old_handler)  # type: ignore[arg-type]
            self._old_handler = None
        self._selector.close()
        self._wake.close()
        for fd in {self._in_fd, self._out_fd}:
            os.close(fd)

    # ---- in and out ----------------------------------------------------------------------------------------

    def read(self, wait_s: float = 0.0) -> bytes:
        """Keys pressed since; empty when there are none (within `wait_s`)."""
        self._wake.drain()
        if not self.active or self.lost or self.deaf:
            return b""
        if (self._shared or wait_s) and not select.select((self._in_fd,), (), (), wait_s)[0]:
            return b""
        try:
            data = os.read(self._in_fd, _READ)
        except BlockingIOError:
            return b""
        except OSError:  # EIO: the terminal has hung up
            data = b""
        if not data:
            self.deaf = True
            with contextlib.suppress(KeyError):
                self._selector.unregister(self._in_fd)
        return data

    def send(self, data: bytes) -> None:
        """Queue and write what the terminal takes now."""
        self._unsent += data
        self.flush()

    def flush(self) -> bool:
        """Whether everything queued has been written."""
        while self._unsent and not self.lost:
            if self._shared and not select.select((), (self._out_fd,), (), 0)[1]:
                return False
            try:
                written = os.write(self._out_fd, self._unsent[: 1024 if self._shared else None])
            except BlockingIOError:
                return False
            except OSError:
                self.lost = True
                break
            self._unsent = self._unsent[written:]
        return True

    def size(self) -> tuple[int, int]:
        """(columns, rows). A terminal that does not know its size counts as 80 by 24."""
        self.resized = False
        try:
            columns, rows = os.get_terminal_size(self._out_fd)
        except OSError:
            columns, rows = 0, 0
        return columns or _env_size("COLUMNS", 80), rows or _env_size("LINES", 24)

    def _size_changed(self, *_: object) -> None:
        self.resized = True
        self._wake.ring()


def _open_own(saved: SavedTerminal) -> tuple[int, int, bool]:
    """(descriptor to read, descriptor to write, whether they are shared with other programs)"""
    try:
        if os.ttyname(saved.in_fd) == os.ttyname(saved.out_fd):
            fd = os.open(os.ttyname(saved.in_fd), os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
            return fd, fd, False
    except OSError:  # another user's terminal (sudo, su), or no /dev/pts here (containers)
        pass
    return os.dup(saved.in_fd), os.dup(saved.out_fd), True


def _env_size(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdigit() and int(value) > 0 else default


class StrayOutput:
    """Keeps what this process itself prints (warnings, tracebacks) off the screen while it is taken: it goes to a
    file, so that it survives a crash, and is shown afterwards."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._saved: Sequence[tuple[int, int]] = ()
        self._start = 0

    def capture(self) -> None:
        """Send standard output and error to the file."""
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError:
            return
        self._start = os.fstat(fd).st_size
        self._saved = [(number, os.dup(number)) for number in (1, 2) if os.isatty(number)]
        for number, _ in self._saved:
            os.dup2(fd, number)
        os.close(fd)

    def release(self) -> str:
        """Undo it; what was printed meanwhile."""
        for number, saved in self._saved:
            os.dup2(saved, number)
            os.close(saved)
        if not self._saved:
            return ""
        self._saved = ()
        try:
            with open(self._path, "rb") as file:  # noqa: PTH123
                file.seek(self._start)
                text = file.read()
            if not text and not self._start:
                os.unlink(self._path)  # noqa: PTH108
        except OSError:
            return ""
        return text.decode("utf-8", "replace")
