"""A reader that does not read never holds the run; one that reads late finds how it ended."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sf_runner.linux.output import Writer, tell, unblocked_output
from sf_runner.state import events as ev
from sf_runner.state.jobs import Running
from tests.runner.harness import RunUnderTest, shell, wait_gone, wait_until
from tests.runner.pty_run import Pty, prepare

Make = Callable[..., RunUnderTest]
F_SETPIPE_SZ = 1031


@dataclass
class SmallPipe:
    """A pipe that takes 4096 bytes."""

    reader: int
    writer: int

    def fill(self) -> None:
        os.set_blocking(self.writer, False)
        try:
            while True:
                os.write(self.writer, b"x")
        except BlockingIOError:
            os.set_blocking(self.writer, True)

    def read_all(self) -> str:
        """Until its writers are gone."""
        parts = []
        while data := os.read(self.reader, 65536):
            parts.append(data)
        return b"".join(parts).decode()

    def read_some(self) -> bytes:
        """What is there."""
        os.set_blocking(self.reader, False)
        try:
            return os.read(self.reader, 1 << 20)
        except BlockingIOError:
            return b""


@pytest.fixture
def pipe() -> Iterator[SmallPipe]:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, F_SETPIPE_SZ, 4096)
    pipe = SmallPipe(reader, writer)
    yield pipe
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            pass


def start(run: RunUnderTest, pipe: SmallPipe, *flags: str) -> None:
    """Its output goes into the pipe."""
    command = run.command(*flags)
    process = subprocess.Popen(
        command, cwd=run.folder, env=run.environ(), stdin=subprocess.DEVNULL, stdout=pipe.writer, stderr=pipe.writer,
        start_new_session=True,
    )  # fmt: skip
    run.adopt(process)
    os.close(pipe.writer)


FAILING = [shell(f"job{number}", "exit 3") for number in range(60)]


def test_a_pager_that_is_left_alone_does_not_hold_the_run(make: Make, pipe: SmallPipe) -> None:
    run = make(*FAILING)
    start(run, pipe, "--max_failures=0", "--max_parallel=2")
    assert run.finish() == 1
    assert run.state.count("Failed") == 60
    text = pipe.read_all()  # only now
    lines = text.splitlines()
    assert "run chaos: 60 experiments" in lines[0]
    assert any(line.startswith("... ") and line.endswith("lines left out: nobody read them in time") for line in lines)
    assert "run chaos: 0 of 60 experiments succeeded, 60 failed" in text
    assert "try the failed ones again" in lines[-1]


def test_a_pager_that_reads_on_gets_everything(make: Make, pipe: SmallPipe) -> None:
    run = make(*FAILING)
    start(run, pipe, "--max_failures=0", "--max_parallel=2")
    text = pipe.read_all()
    assert run.finish() == 1
    assert text.count("FAILED") == 60
    assert "left out" not in text
    assert "try the failed ones again" in text.splitlines()[-1]


def test_a_reader_that_goes_away_does_not_end_the_run(make: Make, pipe: SmallPipe) -> None:
    run = make(*FAILING)
    start(run, pipe, "--max_failures=0", "--max_parallel=2")
    os.close(pipe.reader)
    assert run.finish() == 1
    assert run.state.count("Failed") == 60


@pytest.mark.slow
def test_the_guardian_does_not_wait_for_a_reader_either(make: Make, pipe: SmallPipe, tmp_path: Path) -> None:
    run = make(shell("a", "until test -e go; do sleep 0.02; done"))
    pipe.fill()
    start(run, pipe)
    run.wait_for("a", Running)
    first = run.runner
    os.kill(first, signal.SIGKILL)
    wait_gone([first])
    run.wait("the next runner", lambda state: len(state.runners) == 2)
    (tmp_path / "go").touch()
    assert run.finish() == 0
    # Not even the closing words had room: they are kept.
    assert "all 1 experiments succeeded" in run.paths.runner_output.read_text()
    assert isinstance(run.events[-1], ev.RunClosed)


def test_a_signal_reaches_a_run_whose_output_nobody_reads(make: Make, pipe: SmallPipe) -> None:
    run = make(shell("a", "sleep 1000"))
    pipe.fill()
    start(run, pipe)
    run.wait_for("a", Running)
    os.kill(run.guardian, signal.SIGTERM)
    assert run.finish() == 143
    assert run.left() == []


# ---- the writer --------------------------------------------------------------------------------------------------


def test_lines_beyond_the_limit_are_counted_where_they_would_be(pipe: SmallPipe) -> None:
    writer = Writer(fd=pipe.writer, limit=3000)
    for number in range(1000):
        writer.put(b"%d\n" % number)
    kept = b""
    while not writer.flush(0.01):
        kept += pipe.read_some()
    writer.put(b"1000\n")
    assert writer.flush(60.0)
    lines = (kept + pipe.read_some()).decode().splitlines()
    expected = 0
    for line in lines:
        if line.startswith("... "):
            assert line.endswith("lines left out: nobody read them in time")
            expected += int(line.split()[1])
        else:
            assert int(line) == expected
            expected += 1
    assert expected == 1001
    assert len(lines) < 1000


def test_room_is_left_for_the_closing_words(pipe: SmallPipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sf_runner.linux.output._PATIENCE_S", 0.05)
    writer = Writer(fd=pipe.writer)
    for number in range(200):
        writer.put(b"%099d\n" % number)
    writer.begin_closing()
    writer.put(b"the end\n")
    assert writer.finish()
    lines = pipe.read_some().decode().splitlines()
    assert lines[-1] == "the end"
    assert lines[-2] == f"... {200 - len(lines) + 2} lines left out: nobody read them in time"


def test_no_line_is_cut_in_two(pipe: SmallPipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sf_runner.linux.output._PATIENCE_S", 0.05)
    writer = Writer(fd=pipe.writer, limit=5000)
    for number in range(2000):
        writer.put(b"%d %s\n" % (number, b"y" * (number % 70)))
    writer.begin_closing()
    assert writer.finish()
    for line in pipe.read_some().decode().splitlines():
        number, _, rest = line.partition(" ")
        assert line.startswith("... ") or rest == "y" * (int(number) % 70)


def test_a_reader_that_is_gone(pipe: SmallPipe) -> None:
    os.close(pipe.reader)
    writer = Writer(fd=pipe.writer)
    writer.put(b"hello\n")
    wait_until("it to be noticed", lambda: writer.broken)
    writer.put(b"more\n")
    assert writer.finish()


def test_a_pipe_that_somebody_made_non_blocking(pipe: SmallPipe) -> None:
    os.set_blocking(pipe.writer, False)
    writer = Writer(fd=pipe.writer)
    writer._closing = True
    writer.put(b"z" * 10_000)
    found = b""
    while len(found) < 10_000:
        found += pipe.read_some()
    assert writer.finish()


def test_a_short_line_is_left_out_where_it_would_have_to_wait(pipe: SmallPipe) -> None:
    saved = os.dup(2)
    try:
        os.dup2(pipe.writer, 2)
        tell("first")
        pipe.fill()
        tell("second")
    finally:
        os.dup2(saved, 2)
        os.close(saved)
    assert pipe.read_some().startswith(b"first\nxxx")


def test_streams_come_back(capfd: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with unblocked_output():
        print("out")
        print("err", file=sys.stderr)
        assert sys.stdout is not before[0]
        assert (sys.stdout.fileno(), sys.stderr.fileno()) == (1, 2)
    assert (sys.stdout, sys.stderr) == before
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("out\n", "err\n")


@pytest.mark.parametrize("ui", ["plain", "rich"])
def test_a_terminal_that_is_stopped_does_not_hold_the_run(tmp_path: Path, ui: str) -> None:
    journal = tmp_path / "train_dir" / "demo" / ".runner" / "journal.jsonl"
    with Pty([*prepare(tmp_path), f"--ui={ui}"], tmp_path) as term:
        term.wait_for("hello from a" if ui == "rich" else "started    a_")
        term.send("\x13")  # Ctrl-S
        term.read(0.2)
        (tmp_path / "go").touch()
        wait_until("the run to end", lambda: '"run_closed"' in journal.read_text())
        term.send("\x11")  # Ctrl-Q
        term.wait_for("run demo: 3 of 4 experiments succeeded, 1 failed")
        assert term.wait_exit() == 1
        term.assert_given_back()
