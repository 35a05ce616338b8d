"""The programs that the benchmarks compare: how each is installed, started, watched and ended.

Everything that a started program leaves running is found by a mark in its environment and killed: not all of them end
what they began.
"""

from __future__ import annotations

import json
import os
import platform
import re
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HERE = Path(__file__).resolve().parent
CACHE = Path.home() / ".cache/sf_algo"
# ale-py: the newest that gymnasium 0.29, which Sample Factory asks for, can use, and the oldest that brings its games.
# OpenCV: newer ones bring numpy 2, with which Sample Factory's rollout workers die at the first step.
PEER_PACKAGES = ("torch==2.13.0", "sample-factory==2.1.1", "vizdoom", "opencv-python-headless<4.12", "ale-py==0.9.0")
SB3_PACKAGES = ("torch==2.13.0", "stable-baselines3==2.9.2")
_MARK = "SF_BENCH_MARK"
_FRAMES = re.compile(r"Total num frames: (\d+)")
_LOOK_S = 0.1
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_CLEAN_UP = "from sf_algo.envs.doom.shm import remove_dead_segments; remove_dead_segments()"


def prepare_venv(venv: Path, packages: Sequence[str]) -> Path:
    """The interpreter of a virtual environment, which is made and filled when there is none."""
    python = venv / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        # One after the other: the first pins which build of torch the second must accept.
        for package in packages:
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", package], check=True)
    return python


def machine() -> dict[str, object]:
    """What a figure was measured on."""
    model = "unknown"
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


@dataclass(frozen=True, kw_only=True)
class CoreUse:
    """Seconds of all cores since the machine was started, and those of one program since that was."""

    at: float
    busy_s: float
    stolen_s: float
    """Taken by the host for other machines."""
    own_s: float


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """How undisturbed a measurement was."""

    own_cores: float
    """Cores that the program kept busy, on average."""
    other_cores: float
    """Cores that anything else on this machine kept busy."""
    stolen_cores: float

    @staticmethod
    def between(begin: CoreUse, end: CoreUse) -> Conditions:
        span = end.at - begin.at
        own = (end.own_s - begin.own_s) / span
        return Conditions(
            own_cores=own,
            other_cores=max(0.0, (end.busy_s - begin.busy_s) / span - own),
            stolen_cores=(end.stolen_s - begin.stolen_s) / span,
        )


@dataclass
class Running:
    """A program under way. Points are (seconds since it was started, frames so far)."""

    process: subprocess.Popen[str]
    folder: Path
    mark: str
    started: float
    points: list[tuple[float, int]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def watch_output(self) -> None:
        """Reads the log until its end; some programs tell their frames there."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log.append(line.rstrip())
            found = _FRAMES.search(line)
            if found:
                self._add(time.time(), int(found[1]))

    def look(self) -> None:
        """Reads the progress file, where the program writes one."""
        with suppress(OSError, ValueError, KeyError):
            progress = json.loads((self.folder / "progress.json").read_text())
            self._add(progress["time"], int(progress["step"]))

    def _add(self, wall_time: float, frames: int) -> None:
        if frames > 0 and (not self.points or frames > self.points[-1][1]):
            self.points.append((wall_time - self.started, frames))

    @property
    def pids(self) -> list[int]:
        """Every process of the program that is alive, the first one first."""
        found = [self.process.pid] if self.process.poll() is None else []
        wanted = f"{_MARK}={self.mark}".encode()
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and int(folder.name) not in found:
                with suppress(OSError):
                    if wanted in (folder / "environ").read_bytes().split(b"\0"):
                        found.append(int(folder.name))
        return found

    @property
    def first_step_s(self) -> float | None:
        """From the start of the command to the first step of any environment."""
        times = [float(path.read_text()) for path in (self.folder / "steps").iterdir() if path.stat().st_size]
        return min(times) - self.started if times else None

    def core_use(self) -> CoreUse:
        words = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        user, nice, system, _, _, irq, soft_irq, stolen = words
        own = 0
        for pid in self.pids:
            with suppress(OSError):
                times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                own += int(times[11]) + int(times[12])
        return CoreUse(
            at=time.time(),
            busy_s=(user + nice + system + irq + soft_irq) / _TICKS_PER_S,
            stolen_s=stolen / _TICKS_PER_S,
            own_s=own / _TICKS_PER_S,
        )

    def fail_if_ended(self) -> None:
        if self.process.poll() is not None:
            raise SystemExit(f"ended with {self.process.returncode}:\n" + "\n".join(self.log[-20:]))

    def wait_for_frames(self, limit_s: float = 150.0) -> None:
        """Returns when the program has reported frames for the first time."""
        until = time.time() + limit_s
        while not self.points:
            if time.time() > until:
                raise SystemExit(f"no frames after {limit_s:g} s:\n" + "\n".join(self.log[-20:]))
            self._pause()

    def _pause(self) -> None:
        time.sleep(_LOOK_S)
        self.look()
        self.fail_if_ended()

    def run_for(self, *, warm_up_s: float, seconds: float, others: Sequence[Running] = ()) -> Conditions:
        """Lets it run that long after its first frames; the conditions are those of `seconds`. `others` run as well and
        are read from time to time."""
        self.wait_for_frames()
        until = time.time() + warm_up_s
        before: CoreUse | None = None
        while time.time() < until or before is None:
            self._pause()
            for other in others:
                other.look()
                other.fail_if_ended()
            if before is None and time.time() >= until:
                before, until = self.core_use(), until + seconds
        return Conditions.between(before, self.core_use())

    def frames_per_s(self, warm_up_s: float) -> float:
        """Slope of the line through the points after the warm-up: batches make the count jump."""
        first = self.points[0][0] + warm_up_s
        late = [(t, frames) for t, frames in self.points if t >= first]
        if len(late) < 3:
            raise SystemExit("too few reports to measure; raise --seconds")
        slope, _ = statistics.linear_regression(*zip(*late, strict=True))
        return slope


@contextmanager
def started(command: Sequence[str], *, env: dict[str, str] | None = None) -> Iterator[Running]:
    """Runs a program and, at the end, kills whatever is left of it. `{folder}` in a word stands for a folder of its
    own, which is removed. From then on SIGTERM ends this process in order, so that nothing is left running."""
    signal.signal(signal.SIGTERM, _end_in_order)
    with tempfile.TemporaryDirectory(prefix="sf_bench_") as name:
        folder, mark = Path(name), secrets.token_hex(8)
        (folder / "steps").mkdir()
        paths = [str(HERE / "first_step"), str(ROOT), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {
            _MARK: mark,
            "SF_BENCH_FIRST_STEP": str(folder / "steps"),
            "SF_RUNNER_PROGRESS_FILE": str(folder / "progress.json"),
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            **(env or {}),
        }
        words = [word.replace("{folder}", str(folder)) for word in command]
        process = subprocess.Popen(
            words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        running = Running(process, folder, mark, time.time())
        reader = threading.Thread(target=running.watch_output, daemon=True)
        reader.start()
        try:
            yield running
        finally:
            _end(running)
            reader.join(10)


def _end_in_order(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _end(running: Running) -> None:
    running.process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        running.process.wait(5)
    for _ in range(3):  # a dying process may have started another one
        for pid in running.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        running.process.wait()
    _remove_dead_memory(running.started)
    subprocess.run([sys.executable, "-c", _CLEAN_UP], cwd=ROOT, check=True)


def _remove_dead_memory(since: float) -> None:
    """Shared memory that a torch made since then and left behind: the peer does even when it ends by itself."""
    for segment in Path("/dev/shm").glob("torch_*_*"):
        with suppress(OSError):
            is_dead = not Path("/proc", segment.name.split("_")[1]).exists()
            if is_dead and segment.stat().st_ctime >= since:
                segment.unlink()
