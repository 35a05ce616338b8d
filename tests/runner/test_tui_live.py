"""The screen and its terminal, in one process: faults, slow terminals, lost terminals, output of our own."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import termios
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sf_runner.linux.terminal_state import SavedTerminal, in_foreground, key_mode
from sf_runner.state import events as ev
from sf_runner.tui.choose import make_screen, why_not_rich
from sf_runner.tui.live import LiveScreen
from sf_runner.tui.plain import PlainScreen, SilentScreen
from sf_runner.tui.terminal import StrayOutput, Terminal
from sf_runner.tui.theme import Theme
from sf_runner.tui.ui_state import Mode
from tests.runner import tui_runs as runs
from tests.runner.tui_runs import NOW, middle, name_of, view_of
from tests.runner.vt import Vt


class Bench:
    """A pseudo-terminal whose other end the test holds, and a screen on it."""

    def __init__(self, folder: Path, mode: Mode = "runner") -> None:
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        saved = SavedTerminal.save(self.slave, self.slave)
        assert saved is not None
        self.before = termios.tcgetattr(self.slave)
        self.terminal = Terminal(saved)
        self.paths = runs.run_paths(folder)
        self.paths.runner_dir.mkdir(parents=True)
        self.foreground = True
        self.screen = LiveScreen(
            self.paths,
            self.terminal,
            Theme.make("256", unicode=True),
            mode=mode,
            leader_pid=os.getpid(),
            foreground=lambda pid: self.foreground,
        )
        self.vt = Vt(100, 30)
        self.view = view_of(middle())

    def read(self) -> Vt:
        while select.select((self.master,), (), (), 0)[0]:
            self.vt.feed(os.read(self.master, 1 << 16))
        return self.vt

    def type(self, keys: bytes) -> Sequence[str]:
        """The requests that follow; the frame after them is drawn."""
        os.write(self.master, keys)
        assert select.select(self.screen.fds(), (), (), 5)[0], "a key wakes the run loop"
        found = [request.action for request in self.screen.requests()]
        self.screen.update((), self.view)
        return found

    def close(self) -> None:
        for fd in (self.master, self.slave):
            try:
                os.close(fd)
            except OSError:
                pass


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def test_start_keys_and_stop(bench: Bench) -> None:
    bench.screen.start(bench.view)
    assert bench.read().text()[0].startswith(" walker_study")
    assert bench.vt.on_alternate
    assert bench.type(b"cy") == ["cancel"]
    assert bench.type(b"?") == []
    assert "Moving about" in "\n".join(bench.read().text())
    assert bench.type(b"\x1b") == []
    assert "Moving about" not in "\n".join(bench.read().text())
    bench.screen.stop(bench.view)
    assert not bench.read().on_alternate
    assert termios.tcgetattr(bench.slave) == bench.before


def test_nothing_is_sent_when_nothing_changed(bench: Bench) -> None:
    bench.screen.start(bench.view)
    bench.read()
    bench.screen._next_draw = 0.0
    bench.screen.update((), replace(bench.view, now=NOW))
    drawn = bench.screen._next_draw
    assert drawn > 0, "a frame was made"
    assert not select.select((bench.master,), (), (), 0)[0], "and was the same"
    bench.screen.stop(bench.view)


def test_frames_that_cost_much_come_seldom(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.screen.start(bench.view)
    ticks = iter([0.0, 0.4])
    monkeypatch.setattr(time, "thread_time", lambda: next(ticks))
    bench.screen._next_draw = 0.0
    before = time.monotonic()
    bench.screen.update((), bench.view)
    assert bench.screen._next_draw >= before + 0.4 / 0.02
    bench.screen.stop(bench.view)


def test_a_fault_of_the_screen_gives_the_terminal_back_and_plain_lines_take_over(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.screen.start(bench.view)

    def broken(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(bench.screen._app, "frame", broken)
    bench.screen._next_draw = 0.0
    bench.screen.update((), bench.view)
    assert not bench.read().on_alternate
    assert termios.tcgetattr(bench.slave) == bench.before
    assert bench.screen.requests() == []
    end = runs.ended(5, NOW, 90.0, cause=runs.NAN)
    bench.view.state.apply(end)
    bench.screen.update([end], bench.view)
    bench.screen.stop(bench.view)
    shown = capsys.readouterr()
    assert "the full-screen UI failed (KeyError: 'a bug'); the run goes on with plain lines" in shown.out
    assert "Traceback" in shown.err
    assert "FAILED     walker_/05" in shown.out


def test_a_terminal_that_takes_nothing_does_not_hold_up_the_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after Ctrl-S, or behind a dead connection: nobody reads the other end."""
    monkeypatch.setattr("sf_runner.tui.terminal._LAST_WORDS_S", 0.2)
    bench.screen.start(bench.view)
    for number in range(200):
        bench.screen._next_draw = bench.screen._next_repaint = 0.0
        bench.screen.update((), replace(bench.view, now=NOW + number))
        if not bench.terminal.flush():
            break
    else:
        pytest.fail("the terminal took everything; the test shows nothing")
    unsent = len(bench.terminal._unsent)
    for number in range(50):
        bench.screen._next_draw = 0.0
        bench.screen.update((), replace(bench.view, now=NOW + 300 + number))
    assert len(bench.terminal._unsent) == unsent, "frames are left out, not piled up"
    bench.read()
    bench.terminal.flush()
    bench.screen._next_draw = bench.screen._next_repaint = 0.0
    bench.screen.update((), bench.view)
    assert bench.read().text()[0].startswith(" walker_study"), "and when it can be seen again, it is whole"
    bench.screen.stop(bench.view)


def test_a_terminal_that_goes_away(bench: Bench) -> None:
    bench.screen.start(bench.view)
    os.close(bench.master)
    for _ in range(3):
        bench.screen._next_draw = 0.0
        assert bench.screen.requests() == []
        bench.screen.update((), replace(bench.view, now=NOW + 1))
    assert bench.terminal.lost
    assert not select.select(bench.screen.fds(), (), (), 0)[0], "the run loop is not woken for ever"
    bench.screen.stop(bench.view)


def test_in_the_background_the_terminal_is_left_alone(bench: Bench) -> None:
    bench.screen.start(bench.view)
    bench.foreground = False
    bench.screen._next_draw = 0.0
    bench.screen.update((), bench.view)
    assert not bench.read().on_alternate
    os.write(bench.master, b"qs\n")
    assert bench.screen.requests() == [], "keys are the shell's now"
    bench.foreground = True
    bench.screen._aside_until = bench.screen._next_draw = 0.0
    termios.tcflush(bench.slave, termios.TCIFLUSH)
    bench.screen.update((), bench.view)
    assert bench.read().on_alternate
    bench.screen.stop(bench.view)


def test_modes_that_a_shell_has_set_are_not_overwritten(bench: Bench) -> None:
    bench.screen.start(bench.view)
    shell = termios.tcgetattr(bench.slave)
    shell[6][termios.VSUSP] = b"\x1a"
    termios.tcsetattr(bench.slave, termios.TCSANOW, shell)
    bench.screen.stop(bench.view)
    assert termios.tcgetattr(bench.slave)[3] == shell[3]
    assert not bench.read().on_alternate


def test_the_guardian_gives_back_what_a_killed_screen_had(bench: Bench) -> None:
    saved = SavedTerminal(in_fd=bench.slave, out_fd=bench.slave, attrs=bench.before)
    assert not saved.give_back(os.getpid()), "nobody has it"
    bench.terminal.enter()
    assert saved.is_taken()
    assert saved.give_back(2**22 + 1), "a process that is gone cannot be in the background"
    assert termios.tcgetattr(bench.slave) == bench.before
    assert not bench.read().on_alternate
    bench.screen.stop(bench.view)


def test_key_mode_keeps_ctrl_c_and_takes_ctrl_z(bench: Bench) -> None:
    mode = key_mode(bench.before)
    assert mode[3] & termios.ISIG
    assert mode[6][termios.VSUSP] == b"\x00"
    assert mode[6][termios.VINTR] == bench.before[6][termios.VINTR]
    assert bench.before[6][termios.VSUSP] == b"\x1a", "the original is left as it was"


def test_what_must_not_vanish_is_said_at_the_end(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.screen.start(bench.view)
    note = ev.Note(t=NOW + 1, text="its GPU was lost", job=name_of(5))
    bench.view.state.apply_all([note, ev.RunDraining(t=NOW + 2, reason="detached")])
    bench.screen.stop(bench.view)
    shown = capsys.readouterr().out
    assert f"warning: {name_of(5)}: its GPU was lost" in shown
    assert "detached: 4 experiments go on; 7 waiting ones start when the same command is given again" in shown


def test_output_of_our_own_is_kept_off_the_screen(tmp_path: Path) -> None:
    stray = StrayOutput(str(tmp_path / "runner_output.log"))
    assert stray.release() == ""
    path = tmp_path / "runner_output.log"
    master, slave = pty.openpty()
    saved = [os.dup(1), os.dup(2)]
    try:
        os.dup2(slave, 1)
        os.dup2(slave, 2)
        stray.capture()
        os.write(2, b"a library complains\n")
        assert path.read_text() == "a library complains\n", "a crash loses nothing"
        assert stray.release() == "a library complains\n"
        os.write(1, b"normal again\n")
        assert os.read(master, 100) == b"normal again\r\n"
        stray.capture()
        assert stray.release() == "", "what was told is not told twice"
    finally:
        for number, fd in enumerate(saved, 1):
            os.dup2(fd, number)
            os.close(fd)
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize(
    ("environ", "asked", "background", "why"),
    [
        ({"TERM": "xterm"}, False, False, ""),
        ({"TERM": "dumb"}, True, False, "cannot move its cursor"),
        ({"TERM": "xterm", "CI": "true"}, False, False, "CI is set"),
        ({"TERM": "xterm", "CI": "true"}, True, False, ""),
        ({"TERM": "xterm", "CI": "false"}, False, False, ""),
        ({"TERM": "xterm"}, False, True, "in the background"),
    ],
)
def test_when_there_is_no_full_screen(
    bench: Bench, environ: dict[str, str], asked: bool, background: bool, why: str
) -> None:
    terminal = SavedTerminal.save(bench.slave, bench.slave)
    found = why_not_rich(terminal, environ, asked=asked, background=background)
    assert (why in found) if why else (found == "")
    assert "no terminal" in why_not_rich(None, environ, asked=asked, background=background)
    bench.screen.stop(bench.view)


def test_the_screen_of_each_ui(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = runs.run_paths(tmp_path)

    def made(ui: str) -> type:
        return type(make_screen(ui, paths, every_s=30.0, leader_pid=os.getpid()))

    assert made("none") is SilentScreen
    assert made("plain") is PlainScreen
    assert made("auto") is PlainScreen
    assert capsys.readouterr().err == ""
    assert made("rich") is PlainScreen
    assert "--ui=rich: standard input and output are no terminal; showing plain lines" in capsys.readouterr().err


def test_a_process_without_a_terminal_counts_as_in_the_foreground() -> None:
    assert in_foreground(2**22 + 1)
