"""Real runners in temporary directories: start, await what the journal says, kill, start again, count leftovers."""

from __future__ import annotations

import importlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TypeVar

from sf_runner.basics.clock import boot_id
from sf_runner.basics.paths import RunPaths
from sf_runner.linux.kernel import read_tag, started_up_s
from sf_runner.linux.process_tools import is_alive
from sf_runner.state import events as ev
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import ENDED, JobRecord, JobState
from sf_runner.store.reader import read_journal

ROOT = Path(__file__).resolve().parents[2]
RUN_NAME = "chaos"

_PATIENCE_S = 60.0
_POLL_S = 0.005

_DESCRIPTION = """\
from sf_runner import Experiment, ParamGrid, Resources, RunDescription

RUN_DESCRIPTION = RunDescription(
    "{name}",
    experiments=[{experiments}],
    experiment_dirs_sf_format=False,
    experiment_arg_name=None,
    experiment_dir_arg_name=None,
    param_prefix="",
)
"""


def shell(name: str, script: str) -> str:
    """The text of an experiment that runs a shell script."""
    return f"Experiment({name!r}, ['sh', '-c', {script!r}])"


def python(name: str, program: str) -> str:
    """The text of an experiment that runs a Python program without the site packages: it starts in 15 ms."""
    return f"Experiment({name!r}, [{sys.executable!r}, '-I', '-S', '-c', {program!r}])"


class RunUnderTest:
    """One run in `folder`. Every process it ever started is gone after `cleanup`."""

    def __init__(self, folder: Path, *experiments: str, train_dir: Path | None = None) -> None:
        self.folder = folder
        self.paths = RunPaths(train_dir=train_dir or folder / "train", run_name=RUN_NAME)
        self.output = folder / "output.txt"
        self.python_path: list[Path] = [ROOT]
        self.base_flags = ["--num_gpus=0", "--ui=plain"]
        self.process: subprocess.Popen[bytes] | None = None
        self.state = RunState()
        self.events: list[ev.Event] = []
        self._offset = 0
        self._started: list[subprocess.Popen[bytes]] = []
        self.describe(*experiments)

    def describe(self, *experiments: str) -> None:
        """(Re)write the run description."""
        text = _DESCRIPTION.format(name=RUN_NAME, experiments=", ".join(experiments))
        (self.folder / "description.py").write_text(text)

    # ---- the runner ----------------------------------------------------------------------------------------

    def command(self, *flags: str) -> list[str]:
        run = f"--run={self.folder / 'description.py'}"
        base = [sys.executable, "-m", "sf_runner.run", run, f"--train_dir={self.paths.train_dir}"]
        return [*base, *self.base_flags, *flags]

    def environ(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, self.python_path)), **(extra or {})}

    def start(self, *flags: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start the runner in a process group of its own; its output goes to `output`."""
        with self.output.open("ab") as out:
            process = subprocess.Popen(
                self.command(*flags),
                cwd=self.folder,
                env=self.environ(env),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        return self.adopt(process)

    def adopt(self, process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """A runner that was started otherwise."""
        self._started.append(process)
        self.process = process
        return process

    def finish(self, timeout_s: float = _PATIENCE_S) -> int:
        """Wait for the runner that was started last; its exit code."""
        assert self.process is not None
        code = self.process.wait(timeout_s)
        self.read()
        return code

    def tool(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`python -m sf_runner.<name> RUN ...`, as another terminal would run it; inside this process, to be fast."""
        main = importlib.import_module(f"sf_runner.{name}").main
        command = [RUN_NAME, *arguments, f"--train_dir={self.paths.train_dir}"]
        out, err = io.TextIOWrapper(io.BytesIO(), write_through=True), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = main(command)
        return subprocess.CompletedProcess(command, code, out.buffer.getvalue().decode(), err.getvalue())  # type: ignore[attr-defined]

    def tool_process(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The same as a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", f"sf_runner.{name}", RUN_NAME, *arguments, f"--train_dir={self.paths.train_dir}"],
            cwd=self.folder,
            env=self.environ(),
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
        )

    def printed(self) -> str:
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    # ---- what the journal says -----------------------------------------------------------------------------

    def read(self) -> RunState:
        """Fold in what was written since."""
        with suppress(FileNotFoundError, NotADirectoryError):
            events, self._offset = read_journal(self.paths.journal, offset=self._offset)
            self.events.extend(events)
            self.state.apply_all(events)
        return self.state

    def wait(
        self, what: str, reached: Callable[[RunState], bool], *, alive: bool = True, timeout_s: float = _PATIENCE_S
    ) -> RunState:
        """Until the journal says so. Fails at once when the runner ended before (`alive`)."""
        deadline = time.monotonic() + timeout_s
        while True:
            ended = alive and self.process is not None and self.process.poll() is not None
            if reached(self.read()):
                return self.state
            if ended:
                assert self.process is not None
                raise AssertionError(f"the runner ended ({self.process.returncode}) before {what}:\n{self.printed()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {timeout_s:.0f} s for {what}:\n{self.printed()}")
            time.sleep(_POLL_S)

    def wait_for(self, job: str, *states: type[JobState], attempt: int = 1, alive: bool = True) -> JobRecord:
        """Until the job is in one of these states. Fails at once when it ended in another one."""

        def reached(state: RunState) -> bool:
            record = self.find(job)
            if record is None or record.attempts < attempt:
                return False
            if isinstance(record.state, ENDED) and not isinstance(record.state, states):
                raise AssertionError(f"{job} ended: {record.state}\n{self.printed()}")
            return isinstance(record.state, states)

        self.wait(f"{job} to be {' or '.join(s.__name__ for s in states)}", reached, alive=alive)
        return self.job(job)

    def find(self, name: str) -> JobRecord | None:
        """The job of the experiment called `name`, or with that id."""
        for job, record in self.state.jobs.items():
            if job == name or job.split("/")[0] == f"{name}_":
                return record
        return None

    def job(self, name: str) -> JobRecord:
        record = self.find(name)
        assert record is not None, f"no job {name} among {list(self.state.jobs)}"
        return record

    def pid(self, name: str) -> int:
        """Main process of the last attempt of a job that was started."""
        job = self.job(name).job_id
        started = [e for e in self.read_events(ev.AttemptStarted) if e.job == job]
        return int(started[-1].handle["pid"])

    def log(self, name: str, attempt: int = 1) -> str:
        path = self.paths.job(self.job(name).job_id).attempt_log(attempt)
        return path.read_text(errors="replace") if path.exists() else ""

    def read_events(self, kind: type[ev.Event], job: str | None = None) -> list[ev.Event]:
        self.read()
        wanted = None if job is None else self.job(job).job_id
        return [e for e in self.events if isinstance(e, kind) and (wanted is None or getattr(e, "job", None) == wanted)]

    # ---- processes -----------------------------------------------------------------------------------------

    @property
    def guardian(self) -> int:
        """What the user started."""
        assert self.process is not None
        return self.process.pid

    @property
    def runner(self) -> int:
        """The runner proper."""
        assert self.read().opened is not None
        return self.state.opened.pid  # type: ignore[union-attr]

    def left(self) -> list[int]:
        """Live processes that carry the tag of this run."""
        if not self.read().run_id:
            return []
        prefix = f"{self.state.run_id}:"
        pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        return [pid for pid in pids if read_tag(pid).startswith(prefix) and started_up_s(pid) is not None]

    def cleanup(self) -> None:
        self.read()
        boot = boot_id()
        # A tool that cancelled without a runner was one for a moment, inside this process.
        others = [handle for handle in self.state.runners if handle["pid"] != os.getpid()]
        runners = [handle for handle in others if is_alive(handle, boot)]
        for process in self._started:
            if process.poll() is None:
                process.kill()
        for handle in runners:
            with suppress(OSError):
                os.kill(int(handle["pid"]), signal.SIGKILL)
        for process in self._started:
            process.wait()
        for pid in self.left():
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)


T = TypeVar("T")


def wait_until(what: str, look: Callable[[], T], timeout_s: float = _PATIENCE_S) -> T:
    """What `look` returns as soon as it is true."""
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s for {what}"
        time.sleep(_POLL_S)
    return found


def wait_gone(pids: Sequence[int], timeout_s: float = _PATIENCE_S) -> None:
    """Until none of these processes is left (zombies do not count)."""
    deadline = time.monotonic() + timeout_s
    while any(started_up_s(pid) is not None for pid in pids):
        assert time.monotonic() < deadline, f"still there: {[pid for pid in pids if started_up_s(pid) is not None]}"
        time.sleep(_POLL_S)


@contextmanager
def run_under_test(folder: Path, *experiments: str, train_dir: Path | None = None) -> Iterator[RunUnderTest]:
    run = RunUnderTest(folder, *experiments, train_dir=train_dir)
    try:
        yield run
    finally:
        run.cleanup()
