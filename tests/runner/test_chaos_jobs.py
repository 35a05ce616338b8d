"""Jobs that die, refuse to die, or leave processes behind: the state is right, the slot is free, nothing is left."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sf_runner.linux.kernel import process_ids, process_stat, read_tag, session_of, started_up_s
from sf_runner.state import events as ev
from sf_runner.state.jobs import Cancelled, Failed, Running, Succeeded
from tests.runner.harness import RunUnderTest, python, shell, wait_gone, wait_until

Make = Callable[..., RunUnderTest]

# Leaves a process that left the session and the group of its job, as daemons do. Prints its pid.
DAEMON = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        if "clear" in {options!r}:
            os.execve("/bin/sleep", ["sleep", "1000"], {{}})
        with open({pid_file!r} + ".new", "w") as file:
            file.write(str(os.getpid()))
        os.rename({pid_file!r} + ".new", {pid_file!r})
        time.sleep(1000)
    os._exit(0)
os.wait()
while not os.path.exists({pid_file!r}) and "clear" not in {options!r}:
    time.sleep(0.002)
"""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    runs: list[RunUnderTest] = []

    def start(*experiments: str, flags: tuple[str, ...] = ()) -> RunUnderTest:
        run = RunUnderTest(tmp_path, *experiments)
        runs.append(run)
        run.start("--grace=0.3", *flags)
        return run

    yield start
    for run in runs:
        run.cleanup()


def ended(run: RunUnderTest, job: str) -> ev.AttemptEnded:
    found = run.read_events(ev.AttemptEnded, job)
    assert len(found) == 1, found
    assert isinstance(found[0], ev.AttemptEnded)
    return found[0]


def test_a_killed_job_fails_and_frees_its_slot(make: Make) -> None:
    run = make(shell("victim", "exec sleep 1000"), shell("next", "exit 0"), flags=("--max_parallel=1",))
    run.wait_for("victim", Running)
    os.kill(run.pid("victim"), signal.SIGKILL)
    assert run.finish() == 1
    state = run.job("victim").state
    assert isinstance(state, Failed)
    assert state.cause.summary.startswith("ended by SIGKILL (killed from outside")
    assert isinstance(run.job("next").state, Succeeded)
    assert run.left() == []


def test_a_killed_grandchild_is_the_jobs_own_business(make: Make) -> None:
    run = make(shell("parent", 'sleep 1000; test $? = 137 && echo "it was killed"'))
    run.wait_for("parent", Running)
    shell_pid = run.pid("parent")
    (child,) = wait_until("the child", lambda: [p for p in process_ids() if session_of(p) == shell_pid != p])
    os.kill(child, signal.SIGKILL)
    assert run.finish() == 0
    assert "it was killed" in run.log("parent")


def test_a_job_that_ignores_term_is_killed_after_the_grace_period(make: Make) -> None:
    run = make(shell("deaf", "trap '' TERM; echo ready; while :; do sleep 0.05; done"))
    run.wait_for("deaf", Running)
    wait_until("the trap", lambda: "ready" in run.log("deaf"))
    answer = run.tool("cancel", "deaf_/*")
    assert answer.stdout == "1 running told to end, 0 waiting cancelled\n"
    assert run.finish() == 1
    assert isinstance(run.job("deaf").state, Cancelled)
    assert ended(run, "deaf").signal == signal.SIGKILL
    assert run.left() == []


def test_a_daemon_ends_with_its_job_and_only_with_its_own(make: Make, tmp_path: Path) -> None:
    file = str(tmp_path / "daemon")
    program = DAEMON.format(pid_file=file, options="")
    run = make(python("maker", program), shell("other", "read x < fifo"), flags=("--max_parallel=2",))
    os.mkfifo(tmp_path / "fifo")
    run.wait_for("maker", Succeeded)
    assert ended(run, "maker").leftovers == 1
    assert started_up_s(int(Path(file).read_text())) is None, "it was told before the daemon was gone"
    assert isinstance(run.job("other").state, Running)
    (tmp_path / "fifo").write_text("go\n")
    assert run.finish() == 0
    assert run.left() == []


def test_a_daemon_without_environment_ends_with_the_last_job(make: Make, tmp_path: Path) -> None:
    program = DAEMON.format(pid_file=str(tmp_path / "never"), options="clear")
    run = make(python("maker", program + "\nprint('made', flush=True); time.sleep(1000)"))
    run.wait_for("maker", Running)
    wait_until("the daemon", lambda: "made" in run.log("maker"))
    job = run.pid("maker")
    runner = run.runner
    (daemon,) = wait_until("the daemon", lambda: [pid for pid in descendants(runner) if pid != job])
    wait_until("it to have cleared its environment", lambda: read_tag(daemon) == "")
    os.kill(job, signal.SIGKILL)
    run.finish()
    assert ended(run, "maker").leftovers == 1
    assert started_up_s(daemon) is None


def test_background_children_of_a_job_that_ends_are_ended(make: Make) -> None:
    script = "(trap 'exit 0' TERM; while :; do sleep 0.02; done) & sleep 1000 & echo $! ; exit 0"
    run = make(shell("parent", script))
    assert run.finish() == 0
    assert ended(run, "parent").leftovers >= 1
    wait_gone([int(run.log("parent").split()[0])], timeout_s=0.0)
    assert run.left() == []


SAYS_BYE = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: (print("bye", flush=True), sys.exit(5)))
print("ready", flush=True)
while True:
    signal.pause()
"""


def test_a_stopped_job_can_be_cancelled(make: Make) -> None:
    run = make(python("stopped", SAYS_BYE), flags=("--grace=30",))
    run.wait_for("stopped", Running)
    wait_until("the trap", lambda: "ready" in run.log("stopped"))
    os.killpg(run.pid("stopped"), signal.SIGSTOP)
    wait_until("it to stop", lambda: process_stat(run.pid("stopped")).state == b"T")  # type: ignore[union-attr]
    run.tool("cancel", "stopped_/*")
    assert run.finish() == 1
    assert isinstance(run.job("stopped").state, Cancelled)
    assert ended(run, "stopped").code == 5, "it was continued, heard TERM and ended by itself"
    assert "bye" in run.log("stopped")


def test_nothing_is_left_when_the_runner_is_killed_before_the_daemons_job_ends(make: Make, tmp_path: Path) -> None:
    file = str(tmp_path / "daemon")
    program = DAEMON.format(pid_file=file, options="") + "\nprint('made', flush=True); open('fifo').read()"
    os.mkfifo(tmp_path / "fifo")
    run = make(python("maker", program))
    run.wait_for("maker", Running)
    wait_until("the daemon", lambda: "made" in run.log("maker"))
    os.kill(run.runner, signal.SIGKILL)
    run.wait("a new runner", lambda state: len(state.runners) == 2)
    (tmp_path / "fifo").write_text("go\n")
    assert run.finish() == 0
    assert isinstance(run.job("maker").state, Succeeded)
    assert started_up_s(int(Path(file).read_text())) is None
    assert run.left() == []


def descendants(root: int) -> list[int]:
    """Children of a process."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if (stat := process_stat(pid)) is not None and stat.parent == root and not stat.ended]
