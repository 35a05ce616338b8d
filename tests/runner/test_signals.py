"""Ctrl-C once, twice, three times; TERM; HUP; a real terminal: as promised, and nothing is lost."""

from __future__ import annotations

import errno
import os
import pty
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sf_runner.linux.kernel import started_up_s
from sf_runner.state import events as ev
from sf_runner.state.jobs import Running, Stopping, Succeeded, Waiting
from tests.runner.harness import RunUnderTest, shell, wait_gone, wait_until

Make = Callable[..., RunUnderTest]

UNTIL_TOLD = "echo $$ > pid_{0}.new; mv pid_{0}.new pid_{0}; until test -e go; do sleep 0.02; done; echo {0} >> done"
"""Runs until the file `go` is there."""
DEAF = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


def jobs(*names: str) -> list[str]:
    return [shell(name, UNTIL_TOLD.format(name)) for name in names]


def draining(run: RunUnderTest, reason: str) -> None:
    run.wait(f"it to be {reason}", lambda state: state.draining is not None and state.draining.reason == reason)


def test_the_first_ctrl_c_starts_nothing_more_and_lets_jobs_finish(make: Make, tmp_path: Path) -> None:
    run = make(*jobs("a", "b"))
    run.start("--max_parallel=1")
    run.wait_for("a", Running)
    os.kill(run.guardian, signal.SIGINT)
    draining(run, "interrupted")
    (tmp_path / "go").touch()
    assert run.finish() == 130
    assert isinstance(run.job("a").state, Succeeded)
    assert isinstance(run.job("b").state, Waiting)
    assert run.start("--max_parallel=1").wait(60) == 0
    run.read()
    assert (tmp_path / "done").read_text().split() == ["a", "b"]


def test_the_second_ends_jobs_which_then_start_again_next_time(make: Make, tmp_path: Path) -> None:
    run = make(*jobs("a", "b"))
    run.start("--max_parallel=2", "--grace=30")
    run.wait_for("a", Running)
    run.wait_for("b", Running)
    os.kill(run.guardian, signal.SIGINT)
    draining(run, "interrupted")
    os.kill(run.guardian, signal.SIGINT)
    assert run.finish() == 130
    assert [job.failures for job in run.state.jobs.values()] == [0, 0], "being told to end is no failure of theirs"
    assert run.state.count("Waiting") == 2
    assert run.left() == []
    (tmp_path / "go").touch()
    assert run.start().wait(60) == 0
    assert sorted((tmp_path / "done").read_text().split()) == ["a", "b"]


def test_the_third_kills(make: Make) -> None:
    run = make(shell("deaf", DEAF))
    run.start("--grace=1000")
    run.wait_for("deaf", Running)
    wait_until("the trap", lambda: "ready" in run.log("deaf"))
    os.kill(run.guardian, signal.SIGINT)
    draining(run, "interrupted")
    os.kill(run.guardian, signal.SIGINT)
    run.wait_for("deaf", Stopping)
    os.kill(run.guardian, signal.SIGINT)
    assert run.finish() == 130
    assert [e.signal for e in run.read_events(ev.AttemptEnded)] == [signal.SIGKILL]  # type: ignore[attr-defined]
    assert run.left() == []


def test_term_ends_jobs_at_once(make: Make) -> None:
    run = make(*jobs("a", "b"))
    run.start("--max_parallel=1", "--grace=30")
    run.wait_for("a", Running)
    os.kill(run.guardian, signal.SIGTERM)
    assert run.finish() == 143
    assert run.state.count("Waiting") == 2
    assert run.left() == []


def test_hup_lets_go_and_the_next_start_takes_the_results(make: Make, tmp_path: Path) -> None:
    run = make(*jobs("a", "b", "c"))
    process = subprocess.Popen(
        run.command("--max_parallel=2"),
        cwd=tmp_path,
        env=run.environ(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    run.adopt(process)
    run.wait_for("a", Running)
    run.wait_for("b", Running)
    pids = {name: run.pid(name) for name in ("a", "b")}
    runner = run.runner
    process.send_signal(signal.SIGHUP)
    output, _ = process.communicate(timeout=60)  # whoever reads our output is let go of too
    assert b"letting go; 2 experiments go on running" in output
    assert all(started_up_s(pid) is not None for pid in pids.values())
    run.read()
    assert {run.job(name).attempts for name in ("a", "b")} == {1}
    assert isinstance(run.job("c").state, Waiting)
    (tmp_path / "go").touch()
    wait_gone([*pids.values(), runner])  # the runner stays for the exit records, and no longer
    assert all(run.paths.job(run.job(name).job_id).exit_record.exists() for name in ("a", "b"))
    assert run.start().wait(60) == 0
    run.read()
    assert [run.job(name).attempts for name in ("a", "b", "c")] == [1, 1, 1]
    assert sorted((tmp_path / "done").read_text().split()) == ["a", "b", "c"]


def test_hup_is_ignored_under_nohup(make: Make, tmp_path: Path) -> None:
    run = make(*jobs("a"))
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run.start()
    finally:
        signal.signal(signal.SIGHUP, old)
    run.wait_for("a", Running)
    for pid in (run.guardian, run.runner):
        os.kill(pid, signal.SIGHUP)
    (tmp_path / "go").touch()
    assert run.finish() == 0


def test_ctrl_c_while_a_killed_runner_is_replaced_is_not_lost(make: Make, tmp_path: Path) -> None:
    run = make(*jobs("a", "b"))
    run.start("--max_parallel=1")
    run.wait_for("a", Running)
    first = run.runner
    os.kill(first, signal.SIGKILL)
    wait_gone([first])
    os.kill(run.guardian, signal.SIGINT)  # nobody is there to hear it
    draining(run, "interrupted")
    assert len(run.state.runners) == 2
    (tmp_path / "go").touch()
    assert run.finish() == 130
    assert isinstance(run.job("a").state, Succeeded)


def test_ctrl_c_is_remembered_when_the_runner_is_killed_after_it(make: Make, tmp_path: Path) -> None:
    run = make(*jobs("a", "b"))
    run.start("--max_parallel=1")
    run.wait_for("a", Running)
    os.kill(run.guardian, signal.SIGINT)
    draining(run, "interrupted")
    os.kill(run.runner, signal.SIGKILL)
    (tmp_path / "go").touch()
    assert run.finish() == 130
    assert len(run.state.runners) == 2
    assert isinstance(run.job("a").state, Succeeded)
    assert isinstance(run.job("b").state, Waiting)


class Terminal:
    """A terminal with a program in its foreground."""

    def __init__(self, command: list[str], folder: Path, env: dict[str, str]) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe(command[0], command, env)
        os.set_blocking(self.fd, False)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def shows(self, text: str) -> None:
        """Wait for it; forget what was shown before it."""

        def look() -> bool:
            try:
                self.shown += os.read(self.fd, 65536).decode(errors="replace")
            except BlockingIOError:
                pass
            except OSError as exc:
                if exc.errno != errno.EIO or text not in self.shown:
                    raise AssertionError(f"no {text!r} in {self.shown}") from exc
            return text in self.shown

        try:
            wait_until(repr(text), look)
        except AssertionError as exc:
            raise AssertionError(f"{exc}:\n{self.shown}") from None
        self.shown = self.shown.partition(text)[2]

    def exit_code(self) -> int:
        def ended() -> int | None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            return status + 1 if pid else None

        return os.waitstatus_to_exitcode(wait_until("it to end", ended) - 1)  # type: ignore[operator]

    def close(self) -> None:
        os.close(self.fd)


def test_ctrl_c_typed_at_a_terminal(make: Make) -> None:
    run = make(shell("deaf", DEAF), shell("waits", "exit 0"))
    terminal = Terminal(run.command("--max_parallel=1", "--grace=1000"), run.folder, run.environ())
    terminal.shows("started    deaf_")
    run.wait_for("deaf", Running)
    wait_until("the trap", lambda: "ready" in run.log("deaf"))
    terminal.type("\x03")
    terminal.shows("nothing new is started; 1 still running (Ctrl-C again ends them)")
    terminal.type("\x03")
    terminal.shows("ending 1 running experiments (Ctrl-C again kills them)")
    terminal.type("\x03")
    terminal.shows("2 experiments are not done; the same command goes on with them: ")
    assert terminal.exit_code() == 130
    terminal.close()
    assert run.left() == []


def test_a_terminal_that_is_closed_takes_nothing_with_it(make: Make, tmp_path: Path) -> None:
    run = make(*jobs("a", "b"))
    terminal = Terminal(run.command("--max_parallel=1"), run.folder, run.environ())
    terminal.shows("started    a_")
    run.wait_for("a", Running)
    job, runner = run.pid("a"), run.runner
    terminal.close()
    terminal.exit_code()
    assert started_up_s(job) is not None
    (tmp_path / "go").touch()
    wait_gone([job, runner])
    assert run.start().wait(60) == 0
    assert [run.read().jobs[job].attempts for job in run.state.jobs] == [1, 1]
    assert (tmp_path / "done").read_text().split() == ["a", "b"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash, whose job control this is about")
def test_ctrl_z_and_fg(make: Make, tmp_path: Path) -> None:
    run = make(*jobs("a", "b"))
    env = {**run.environ(), "PS1": "PROMPT> ", "TERM": "dumb"}
    shell_in_terminal = Terminal(["bash", "--norc", "--noprofile", "-i"], run.folder, env)
    shell_in_terminal.shows("PROMPT> ")
    shell_in_terminal.type(" ".join(run.command("--max_parallel=1")) + "\n")
    shell_in_terminal.shows("started    a_")
    shell_in_terminal.type("\x1a")
    shell_in_terminal.shows("Stopped")
    shell_in_terminal.shows("PROMPT> ")
    (tmp_path / "go").touch()  # experiments go on meanwhile
    run.wait_for("b", Succeeded)
    (tmp_path / "go").unlink()
    shell_in_terminal.type("fg\n")
    shell_in_terminal.shows("all 2 experiments succeeded")
    shell_in_terminal.shows("PROMPT> ")
    shell_in_terminal.type("echo code $?\n")
    shell_in_terminal.shows("code 0")
    shell_in_terminal.type("exit\n")
    shell_in_terminal.exit_code()
    shell_in_terminal.close()
