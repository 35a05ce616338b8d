"""Ending attempts: every process of the tree gets one TERM and the whole grace period."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sf_runner.backends.stopping import Stopper
from sf_runner.linux.ending import Ending, Main, member_of, read_stop, stop_file, trees_of, write_stop
from sf_runner.linux.exit_record import read_record
from sf_runner.linux.job_parent import JobEnd, JobParent, SpawnRequest
from sf_runner.linux.kernel import TAG_VARIABLE, make_subreaper, started_up_s
from sf_runner.linux.process_tools import make_tag, tagged_processes
from sf_runner.state.jobs import Cancelled, Running
from tests.runner.harness import RunUnderTest, wait_until

SAVER = """
import os, signal, sys, time
told = []
def save(*_):
    told.append(1)
    say("term")
def say(text):
    fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, (text + "\\n").encode())
signal.signal(signal.SIGTERM, save)
say("ready")
while not told:
    time.sleep(0.01)
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    time.sleep(0.01)
say("saved")
"""
RUN_ID = uuid.uuid4().hex
"""Another one for everybody who runs these tests at the same time."""
PYTHON = [sys.executable, "-I", "-S"]


def saver(folder: Path, seconds: float, name: str = "saver") -> list[str]:
    """A program that saves for some seconds when it is told to end, and writes down what happens to it."""
    (folder / "saver.py").write_text(SAVER)
    return [*PYTHON, str(folder / "saver.py"), str(folder / name), str(seconds)]


def said(folder: Path, name: str = "saver") -> list[str]:
    path = folder / name
    return path.read_text().split() if path.exists() else []


class Rig:
    """The parent of one job and what ends it, in this process. What is left behind has 0.05 s otherwise."""

    def __init__(self, folder: Path, *, file: bool = False) -> None:
        self.stopper = Stopper(RUN_ID)
        self.own = Stopper(RUN_ID) if file else self.stopper
        self.parent = JobParent(0.05, being_ended=self.own.being_ended)
        self.folder = folder
        self.exit_record = str(folder / "job" / "exit.json")
        self.file = stop_file(self.exit_record) if file else ""
        self.done: list[JobEnd] = []
        self.pid = 0

    def spawn(self, argv: Sequence[str], **env: str) -> None:
        self.pid = self.parent.spawn(
            SpawnRequest(
                job="job",
                attempt=1,
                argv=argv,
                env={**os.environ, TAG_VARIABLE: make_tag(RUN_ID, "job", 1), **env},
                log=str(self.folder / "job" / "log"),
                exit_record=self.exit_record,
            )
        )

    def stop(self, grace_s: float, level: str = "terminate") -> None:
        self.stopper.add("job", 1, self.pid, level, grace_s, file=self.file)  # type: ignore[arg-type]

    def step(self) -> list[JobEnd]:
        self.stopper.send()
        self.done += self.parent.poll()
        self.stopper.poll(time.monotonic())
        return self.done


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(**settings: bool) -> Rig:
        made.append(Rig(tmp_path, **settings))
        return made[-1]

    make_subreaper(True)
    yield make
    for one in made:
        end_tagged(make_tag(RUN_ID, "job", 1), signal.SIGKILL)
        wait_until("all to be gone", lambda one=one: one.parent.poll() or not one.parent.busy)  # type: ignore[misc]
    make_subreaper(False)


def end_tagged(tag: str, signum: int) -> None:
    for pids in tagged_processes([tag]).values():
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signum)


def shell(script: str) -> Callable[[list[str]], list[str]]:
    return lambda argv: ["bash", "-c", script.format(shlex.join(argv))]


def waiting_parent(argv: list[str]) -> list[str]:
    """A program that waits for its child in a session of its own, and leaves TERM to it."""
    program = (
        "import signal, subprocess; signal.signal(signal.SIGTERM, lambda *_: None); "
        f"subprocess.Popen({argv!r}, start_new_session=True).wait()"
    )
    return [*PYTHON, "-c", program]


@pytest.mark.parametrize("file", [False, True])
@pytest.mark.parametrize(
    "around",
    [
        lambda argv: argv,
        shell("{0}; true"),
        shell("setsid {0}; true"),
        shell("set -m; {0}; true"),
        shell("bash -c '{0}; true'; true"),
        shell("setsid env -i {0}; true"),
        shell("trap '' TERM; setsid {0} & wait"),
        waiting_parent,
    ],
    ids=["itself", "shell", "session", "group", "shells", "no_environment", "ignored", "waiting"],
)
def test_whatever_saves_has_one_term_and_its_whole_grace_period(
    rig: Callable[..., Rig], tmp_path: Path, around: Callable[[list[str]], list[str]], file: bool
) -> None:
    job = rig(file=file)  # by a file: who ends it is not its parent
    job.spawn(around(saver(tmp_path, 0.6)))
    wait_until("it to run", lambda: job.step() or said(tmp_path))
    job.stop(60.0)
    wait_until("its end", job.step)
    assert said(tmp_path) == ["ready", "term", "saved"]


def test_two_that_save_have_one_term_each(rig: Callable[..., Rig], tmp_path: Path) -> None:
    job = rig()
    one, other = saver(tmp_path, 0.3), saver(tmp_path, 0.6, "other")
    job.spawn(["bash", "-c", f"setsid {shlex.join(one)} & {shlex.join(other)}; true"])
    wait_until("both to run", lambda: job.step() or (said(tmp_path) and said(tmp_path, "other")))
    job.stop(60.0)
    wait_until("the end", job.step)
    assert said(tmp_path) == said(tmp_path, "other") == ["ready", "term", "saved"]


def test_what_does_not_end_is_killed_after_the_grace_period(rig: Callable[..., Rig], tmp_path: Path) -> None:
    job = rig()
    job.spawn(["bash", "-c", f"{shlex.join(saver(tmp_path, 1000))}; true"])
    wait_until("it to run", lambda: job.step() or said(tmp_path))
    job.stop(0.2)
    wait_until("its end", job.step)
    assert said(tmp_path) == ["ready", "term"]


def test_a_helper_that_is_left_after_saving_has_one_term_too(rig: Callable[..., Rig], tmp_path: Path) -> None:
    """It is started after TERM, and does not get it while the program that needs it lives."""
    job = rig()
    helper = saver(tmp_path, 0.3, "helper")
    program = (
        "import signal, subprocess, sys, time, os\n"
        f"def save(*_): subprocess.Popen({helper!r}, start_new_session=True)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        f"open({str(tmp_path / 'begun')!r}, 'w').close()\n"
        f"while not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)\n"
    )
    job.spawn([*PYTHON, "-c", program])
    wait_until("it to run", lambda: job.step() or (tmp_path / "begun").exists())
    job.stop(60.0)
    wait_until("the helper", lambda: job.step() or said(tmp_path, "helper"))
    for _ in range(20):
        job.step()
    assert said(tmp_path, "helper") == ["ready"]
    (tmp_path / "go").touch()
    wait_until("the end", job.step)
    assert said(tmp_path, "helper") == ["ready", "term", "saved"]


def test_kill_does_not_wait(rig: Callable[..., Rig], tmp_path: Path) -> None:
    job = rig()
    job.spawn(["bash", "-c", f"setsid {shlex.join(saver(tmp_path, 1000))} & {shlex.join(saver(tmp_path, 1000))}; true"])
    wait_until("both to run", lambda: job.step() or len(said(tmp_path)) == 2)
    job.stop(60.0)
    wait_until("TERM", lambda: job.step() or said(tmp_path).count("term") == 2)
    job.stop(60.0, "kill")
    wait_until("the end", job.step)
    assert "saved" not in said(tmp_path)


def test_a_runner_inside_a_job_ends_its_own_experiments(rig: Callable[..., Rig], tmp_path: Path) -> None:
    job = rig()
    inner = f"setsid env {TAG_VARIABLE}=other{RUN_ID}:1:job {shlex.join(saver(tmp_path, 0.0))}"
    job.spawn(["bash", "-c", f"trap 'echo term >> {tmp_path}/outer' TERM; {inner} & wait; wait"])
    wait_until("it to run", lambda: job.step() or said(tmp_path))
    job.stop(60.0)
    wait_until("TERM", lambda: job.step() or said(tmp_path, "outer"))
    for _ in range(20):
        job.step()
    assert said(tmp_path) == ["ready"]
    end_tagged(f"other{RUN_ID}:1:job", signal.SIGTERM)
    wait_until("the end", job.step)


# ---- who has a number --------------------------------------------------------------------------------------------


_STRANGER = """
import subprocess, sys
number = int(sys.argv[1])
for _ in range(200):
    try:
        with open("/proc/sys/kernel/ns_last_pid", "w") as last:
            last.write(str(number - 1))
    except OSError:
        break
    stranger = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    if stranger.pid == number:
        print("here", flush=True)
        sys.stdin.read()
        print(stranger.poll(), flush=True)
        stranger.kill()
        sys.exit()
    stranger.kill()
    stranger.wait()
print("no", flush=True)
"""


@contextmanager
def stranger_with_number(number: int) -> Iterator[Callable[[], str]]:
    """A process with exactly this number, of somebody else; the function ends it and says how it was: None, alive."""
    command = [*PYTHON, "-c", _STRANGER, str(number)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        if other.stdout.readline().strip() != "here":
            pytest.skip("process ids cannot be chosen here")
        yield lambda: str(other.communicate()[0]).strip()


def test_a_stranger_with_the_number_of_a_reaped_job_is_left_alone(rig: Callable[..., Rig], tmp_path: Path) -> None:
    job = rig()
    job.spawn(["bash", "-c", f"setsid {shlex.join(saver(tmp_path, 1000))} & sleep 0.1"])
    wait_until("what it leaves behind", lambda: said(tmp_path))
    wait_until("its main process to be reaped", lambda: job.parent.poll() or read_record(job.exit_record, 1))
    with stranger_with_number(job.pid) as how_it_is:
        job.stop(0.0, "kill")
        wait_until("the end", job.step)
        assert how_it_is() == "None"


def test_a_member_is_signalled_only_while_it_is_that_process() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        member = member_of(process.pid)
        assert member is not None
        process.kill()
        process.wait()
    with stranger_with_number(member.pid) as how_it_is:
        if started_up_s(member.pid) == member.started_up_s:
            pytest.skip("it started in the same hundredth of a second")
        member.signal(signal.SIGKILL)
        assert how_it_is() == "None"


def test_what_is_no_experiment_is_never_taken_for_one() -> None:
    numbers = {"none": 0, "init": 1, "all": -1}
    mains = {name: Main("", pid, 0.0) for name, pid in numbers.items()} | {"no": Main("no:1:such", 1 << 30, 0.0)}
    assert trees_of(mains) == {name: [] for name in mains}


def test_how_an_attempt_is_ended_is_told_in_a_file(tmp_path: Path) -> None:
    path = stop_file(str(tmp_path / "exit.json"))
    assert read_stop(path, 1) is None
    ending = Ending(kill_at=5.0, grace_s=3.0, termed={7: 1.25})
    write_stop(path, 2, ending, sent=True)
    assert read_stop(path, 2) == (ending, True)
    assert read_stop(path, 1) is None, "of another attempt"
    Path(path).write_text("{")
    assert read_stop(path, 2) is None
    write_stop(str(tmp_path / "no" / "such" / "stop.json"), 1, ending, sent=True)


# ---- whole runs --------------------------------------------------------------------------------------------------

_SHORT = """
import sys
from sf_runner.backends.local import backend
from sf_runner.linux import guardian
guardian._LEFTOVER_GRACE_S = 0.05
backend.ProcessesBackend.__init__.__kwdefaults__["leftover_grace_s"] = 0.05
from sf_runner.run import main
sys.exit(main(sys.argv[1:]))
"""


def begin(run: RunUnderTest, *flags: str) -> None:
    """Start the runner; what jobs leave behind by themselves has next to no time."""
    command = [sys.executable, "-c", _SHORT, *run.command(*flags)[3:]]
    with run.output.open("ab") as out:
        run.adopt(
            subprocess.Popen(command, cwd=run.folder, env=run.environ(), stdout=out, stderr=out, start_new_session=True)
        )


def behind_a_shell(folder: Path, seconds: float) -> str:
    return f"Experiment('job', ['bash', '-c', {shlex.join(saver(folder, seconds)) + '; true'!r}])"


@pytest.mark.parametrize("killed", [False, True], ids=["its own", "inherited"])
def test_a_cancelled_experiment_behind_a_shell_saves(
    make: Callable[..., RunUnderTest], tmp_path: Path, killed: bool
) -> None:
    run = make(behind_a_shell(tmp_path, 0.7))
    begin(run)
    run.wait_for("job", Running)
    wait_until("it to run", lambda: said(tmp_path))
    if killed:
        os.kill(run.runner, signal.SIGKILL)
        run.wait("another runner", lambda state: len(state.runners) == 2)
    assert run.tool("cancel").returncode == 0
    run.wait_for("job", Cancelled, alive=False)
    run.finish()
    assert said(tmp_path) == ["ready", "term", "saved"]
    assert list(run.paths.root.glob("*/*/job/stop.json")) == []
    assert "left behind" not in run.printed()


def test_an_experiment_of_a_runner_in_the_background_saves_when_another_process_cancels_it(
    make: Callable[..., RunUnderTest], tmp_path: Path
) -> None:
    run = make(behind_a_shell(tmp_path, 0.7))
    begin(run)
    run.wait_for("job", Running)
    wait_until("it to run", lambda: said(tmp_path))
    os.kill(run.guardian, signal.SIGHUP)
    run.finish()
    assert run.tool_process("cancel").returncode == 0
    assert isinstance(run.read().jobs[run.job("job").job_id].state, Cancelled)
    assert said(tmp_path) == ["ready", "term", "saved"]


def test_a_runner_that_is_killed_while_experiments_save_does_not_disturb_them(
    make: Callable[..., RunUnderTest], tmp_path: Path
) -> None:
    run = make(behind_a_shell(tmp_path, 1.5))
    begin(run, "--timeout=0.5")
    wait_until("TERM", lambda: run.read() and "term" in said(tmp_path))
    os.kill(run.runner, signal.SIGKILL)
    run.finish()
    assert said(tmp_path) == ["ready", "term", "saved"]
    assert "ran longer than 0.5 s" in run.printed()
