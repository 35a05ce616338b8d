"""How the terminal was before a full-screen UI took it, and how to give it back.

Imports next to nothing: the guardian uses it to restore the terminal of a UI that was killed.
"""

from __future__ import annotations

import os
import select
import termios
from dataclasses import dataclass
from typing import Any

ENTER_SCREEN = b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[?2004h\x1b[0m\x1b[2J\x1b[H"
"""Alternate screen, no cursor, no automatic wrapping, pasted text in brackets."""

LEAVE_SCREEN = b"\x1b[?2026l\x1b[?2004l\x1b[?7h\x1b[?25h\x1b[0m\x1b[?1049l"

_IFLAG, _LFLAG, _CC = 0, 3, 6
_DISABLED = b"\x00"
_PATIENCE_S = 1.0


def key_mode(attrs: list[Any]) -> list[Any]:
    """These terminal attributes, changed so that every key arrives at once and unseen.

    Ctrl-C stays a signal. Ctrl-Z becomes a key, because the screen has to be given back before anything stops; it is
    also the mark by which `is_taken` tells our settings from a shell's.
    """
    mode = [*attrs[:_CC], list(attrs[_CC])]
    mode[_LFLAG] &= ~(termios.ICANON | termios.ECHO | termios.IEXTEN)
    mode[_CC][termios.VMIN], mode[_CC][termios.VTIME] = 1, 0
    mode[_CC][termios.VSUSP] = _DISABLED
    return mode


@dataclass(frozen=True, kw_only=True)
class SavedTerminal:
    """The terminal on standard input and output, as it was found."""

    in_fd: int
    out_fd: int
    attrs: list[Any]

    @classmethod
    def save(cls, in_fd: int = 0, out_fd: int = 1) -> SavedTerminal | None:
        """None where input or output is no terminal."""
        try:
            if os.isatty(in_fd) and os.isatty(out_fd):
                return cls(in_fd=in_fd, out_fd=out_fd, attrs=termios.tcgetattr(in_fd))
        except (OSError, termios.error):
            pass
        return None

    def is_taken(self) -> bool:
        """Whether the terminal is in `key_mode` now. A shell that took it over meanwhile has set other modes."""
        try:
            now = termios.tcgetattr(self.in_fd)
        except (OSError, termios.error):
            return False
        mode = key_mode(self.attrs)
        return bool(now[_LFLAG] == mode[_LFLAG] and now[_CC][termios.VSUSP] == _DISABLED)

    def restore_modes(self) -> None:
        """Set the attributes as they were, and forget keys that nobody read."""
        try:
            termios.tcsetattr(self.in_fd, termios.TCSANOW, self.attrs)
            termios.tcflush(self.in_fd, termios.TCIFLUSH)
        except (OSError, termios.error):
            pass

    def give_back(self, leader_pid: int) -> bool:
        """Undo what a UI did that is gone; nothing when none had the terminal. `leader_pid`: the process the shell
        waits for; while that one is in the background, the terminal is the shell's business."""
        try:
            if not self.is_taken() or not in_foreground(leader_pid):
                return False
            start_output(self.in_fd)
            if select.select((), (self.out_fd,), (), _PATIENCE_S)[1]:  # not of one that hangs
                os.write(self.out_fd, LEAVE_SCREEN)
        except (OSError, termios.error):
            return False
        self.restore_modes()
        return True


def start_output(fd: int) -> None:
    """Undo Ctrl-S, which would hold back whatever follows. Raises OSError or termios.error where there is no terminal.

    Newer kernels do not undo it for `tcflow`, but for a terminal that has no such key (any more).
    """
    termios.tcflow(fd, termios.TCOON)
    attrs = termios.tcgetattr(fd)
    if attrs[_IFLAG] & termios.IXON:
        termios.tcsetattr(fd, termios.TCSANOW, [attrs[_IFLAG] & ~termios.IXON, *attrs[1:]])
        termios.tcsetattr(fd, termios.TCSANOW, attrs)


def in_foreground(pid: int) -> bool:
    """Whether the process is neither stopped nor in the background of its terminal. True where that cannot be told."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            fields = file.read().rpartition(b") ")[2].split()
    except OSError:
        return True
    state, group, foreground_group = fields[0], int(fields[2]), int(fields[5])
    # No controlling terminal (-1), or one of another process namespace (0): nobody can take it from us.
    return state not in (b"T", b"t") and (group == foreground_group or foreground_group <= 0)
