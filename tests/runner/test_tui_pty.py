"""The real runner on a real (pseudo-)terminal: what it shows, and in which state it leaves the terminal."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.runner.pty_run import Pty, prepare
from tests.runner.vt import Vt


def runner_pids(folder: Path) -> list[int]:
    journal = folder / "train_dir" / "demo" / ".runner" / "journal.jsonl"
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    return [event["pid"] for event in events if event["e"] == "run_opened"]


def test_a_run_from_the_first_screen_to_the_summary(tmp_path: Path) -> None:
    with Pty(prepare(tmp_path), tmp_path) as term:
        term.wait_for("hello from a")
        assert term.vt.on_alternate
        assert term.modes() == (False, False, b"\x00")
        assert "2 waiting" in term.vt.text()[2]
        term.send("j")
        term.wait_for("hello from b")
        term.send("\x1b[A")
        term.wait_for("hello from a")
        term.send("?")
        term.wait_for("Moving about")
        term.send("\x1b")
        term.wait_for("4 experiments")
        term.send("\r")
        term.wait_for("attempt_1.log")
        term.send("q")
        term.wait_for("2 running")
        (tmp_path / "go.b").touch()
        term.wait_for("1 failed")
        term.wait_for(lambda vt: any("failed" in row and "b is broken" in row for row in vt.text()))
        (tmp_path / "go").touch()
        assert term.wait_exit() == 1
        term.assert_given_back()
        shown = "\n".join(term.vt.text())
        assert "run demo: 3 of 4 experiments succeeded, 1 failed" in shown
        assert "b is broken" in shown
        assert "running" not in shown, "nothing of the screen is left"


def test_it_follows_the_size_of_the_terminal(tmp_path: Path) -> None:
    with Pty(prepare(tmp_path), tmp_path, size=(120, 40)) as term:
        term.wait_for("hello from a")
        for columns, rows in ((60, 16), (200, 50), (30, 8), (80, 24)):
            term.resize(columns, rows)
            term.wait_for(lambda vt: vt.text()[0].startswith(" demo") and bool(vt.text()[-1].strip()))
        (tmp_path / "go").touch()
        term.wait_exit()
        term.assert_given_back()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_ended_by_a_signal(tmp_path: Path, signum: int, code: int) -> None:
    with Pty(prepare(tmp_path), tmp_path) as term:
        term.wait_for("hello from a")
        if signum == signal.SIGINT:
            term.send("\x03")
            term.wait_for("nothing new is started")
            assert term.modes()[0] is False
            term.send("\x03")
        else:
            os.kill(term.pid, signum)
        assert term.wait_exit() == code
        term.assert_given_back()


def test_a_runner_killed_while_it_has_the_terminal(tmp_path: Path) -> None:
    with Pty(prepare(tmp_path), tmp_path) as term:
        term.wait_for("hello from a")
        os.kill(runner_pids(tmp_path)[0], signal.SIGKILL)
        term.wait_for(lambda vt: not vt.on_alternate)
        term.wait_for(lambda vt: vt.on_alternate and "2 running" in "\n".join(vt.text()))
        assert len(runner_pids(tmp_path)) == 2
        (tmp_path / "go").touch()
        assert term.wait_exit() == 1
        term.assert_given_back()
        assert any("the runner was killed" in row for row in term.vt.text())


def test_the_front_process_killed(tmp_path: Path) -> None:
    with Pty(prepare(tmp_path), tmp_path) as term:
        term.wait_for("hello from a")
        os.kill(term.pid, signal.SIGKILL)
        term.wait_exit()
        term.wait_for(lambda vt: not vt.on_alternate)
        deadline = time.monotonic() + 30
        while term.modes() != term.modes_before and time.monotonic() < deadline:
            term.read()
        term.assert_given_back()
        (tmp_path / "go").touch()
        term.wait_for("detached: 2 experiments go on; 2 waiting ones start when the same command is given again")


def test_detaching_from_the_keyboard(tmp_path: Path) -> None:
    with Pty(prepare(tmp_path), tmp_path) as term:
        term.wait_for("hello from a")
        term.send("q")
        term.wait_for("Leave this run?")
        term.send("d")
        assert term.wait_exit() == 1
        term.assert_given_back()
        assert any("detached: 2 experiments go on" in row for row in term.vt.text())
    (tmp_path / "go").touch()
    with Pty(prepare(tmp_path), tmp_path) as term:
        assert term.wait_exit() == 1
        assert any("3 of 4 experiments succeeded" in row for row in term.vt.text())


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs a shell with job control: bash not found")
def test_ctrl_z_and_fg(tmp_path: Path) -> None:
    command = " ".join(prepare(tmp_path))
    with Pty(["bash", "--norc", "-i"], tmp_path, env={"PS1": "shell> "}) as term:
        term.wait_for("shell>")
        term.send(f"{command}\n")
        term.wait_for("hello from a")
        term.send("\x1a")
        term.wait_for(lambda vt: not vt.on_alternate and any("Stopped" in row for row in vt.text()))
        term.send("echo $((6*7))\n")
        term.wait_for("42")
        (tmp_path / "go.a").touch()
        journal = tmp_path / "train_dir" / "demo" / ".runner" / "journal.jsonl"
        deadline = time.monotonic() + 60
        while journal.read_text().count('"e":"started"') < 3:  # a is over, and c takes its place
            assert time.monotonic() < deadline, "the run does not go on behind the shell"
            term.read()
        assert not term.vt.on_alternate
        term.send("fg\n")
        term.wait_for(lambda vt: vt.on_alternate and "1 succeeded" in "\n".join(vt.text()))
        (tmp_path / "go").touch()
        term.wait_for("3 of 4 experiments succeeded")
        term.wait_for(lambda vt: [row for row in vt.text() if row][-1] == "shell>")
        assert not term.vt.on_alternate
        term.send("exit\n")
        assert term.wait_exit() == 1


def test_started_in_the_background_it_leaves_the_terminal_alone(tmp_path: Path) -> None:
    command = " ".join(prepare(tmp_path))
    (tmp_path / "go").touch()
    with Pty(["sh", "-c", f"set -m; {command} & wait"], tmp_path) as term:
        term.wait_exit()
        assert b"\x1b[?1049h" not in term.raw
        assert any("3 of 4 experiments succeeded" in row for row in term.vt.text())


@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"CI": "true"}])
def test_plain_lines_where_there_can_be_no_screen(tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / "go").touch()
    with Pty(prepare(tmp_path), tmp_path, env=env) as term:
        assert term.wait_exit() == 1
        assert b"\x1b" not in term.raw
        assert any("run demo: 4 experiments" in row for row in term.vt.text())


def test_no_colour_where_none_is_wanted(tmp_path: Path) -> None:
    with Pty(prepare(tmp_path), tmp_path, env={"NO_COLOR": "1"}) as term:
        term.wait_for("hello from a")
        (tmp_path / "go").touch()
        term.wait_exit()
        codes = {
            code for part in term.raw.split(b"\x1b[")[1:] for code in [part.partition(b"m")[0]] if code[:1] == b"0"
        }
        assert codes <= {b"0", b"0;1", b"0;2", b"0;7", b"0;7;2", b"0;1;7"}, codes


def test_the_screen_that_was_shown_is_the_one_that_was_meant(tmp_path: Path) -> None:
    """What arrived in many differences is what a full repaint gives."""
    with Pty(prepare(tmp_path), tmp_path) as term:
        term.wait_for("hello from a")
        for key in ("j", "s", "s", "/", "b", "\r", "\x1b", "S", "k"):
            term.send(key)
            term.read(0.2)
        term.wait_for(lambda vt: "filter" in vt.text()[-1])
        while term.read(0.3):
            pass
        shown = term.vt.text()
        term.vt = Vt(100, 30)
        term.vt.modes -= {7}
        term.send("\x0c")
        term.wait_for(lambda vt: "filter" in vt.text()[-1])

        def still(rows: list[str]) -> list[str]:
            """Without clocks, loads and messages."""
            return [re.sub(r"[\d:.]+", "#", row).rstrip() for row in rows[5:]]

        assert still(shown) == still(term.vt.text())
        (tmp_path / "go").touch()
        term.wait_exit()
