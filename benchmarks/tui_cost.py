"""What the full-screen UI costs, measured on the real runner under a pseudo-terminal.

    python benchmarks/tui_cost.py live --jobs=1000 --live=64     # CPU share, bytes, time from key to screen
    python benchmarks/tui_cost.py trivial --jobs=10000           # wall time over `xargs -P2`

`live` starts programs that sleep and report their progress each second, and compares the CPU time of the runner
process with --ui=rich and with --ui=none. `trivial` runs `true` many times.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

SLEEPER = """
import random, time
from sf_runner.progress import report
step = 0
while True:
    step += 1000
    report(step=step, total=1_000_000, reward=random.gauss(step / 1e4, 1), loss=random.random())
    print("step", step, "reward", random.random(), flush=True)
    time.sleep(1)
"""

DESCRIPTION = """
from sf_runner import Experiment, ParamGrid, RunDescription
grid = ParamGrid([("seed", list(range({jobs})))])
RUN_DESCRIPTION = RunDescription(
    "bench", experiments=[Experiment("walker", {command!r}, grid.generate_params(randomize=False))],
    experiment_arg_name="", experiment_dir_arg_name="", max_parallel={parallel},
)
"""


class Screen:
    """The runner on a pseudo-terminal of its own; everything it shows is read and thrown away, or waited for."""

    def __init__(self, argv: list[str], folder: Path, columns: int, rows: int) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "CI": ""}
            os.execve(argv[0], argv, env)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.received = 0

    def read(self, timeout_s: float) -> bytes:
        if not select.select((self.fd,), (), (), timeout_s)[0]:
            return b""
        try:
            data = os.read(self.fd, 1 << 16)
        except OSError:
            return b""
        self.received += len(data)
        return data

    def read_until(self, text: bytes, timeout_s: float) -> float:
        """Seconds until it was shown."""
        began, seen = time.monotonic(), b""
        while time.monotonic() - began < timeout_s:
            seen = (seen + self.read(0.01))[-100_000:]
            if text in seen:
                return time.monotonic() - began
        raise TimeoutError(f"{text!r} did not appear within {timeout_s} s")

    def read_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.read(left)

    def end(self) -> None:
        """TERM, and wait until everything is gone."""
        os.kill(self.pid, signal.SIGTERM)
        while True:
            self.read(0.05)
            pid, _ = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return


def command(folder: Path, ui: str, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "sf_runner.run", f"--run={folder / 'description.py'}", f"--train_dir={folder / ui}",
        f"--ui={ui}", "--grace=1", "--num_gpus=0", *more,
    ]  # fmt: skip


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def runner_pid(journal: Path) -> int:
    while True:
        for line in journal.read_text().splitlines() if journal.exists() else ():
            event = json.loads(line)
            if event["e"] == "run_opened":
                return int(event["pid"])
        time.sleep(0.05)


def started(journal: Path) -> int:
    return journal.read_text().count('"e":"started"') if journal.exists() else 0


def measure_live(folder: Path, args: argparse.Namespace) -> None:
    (folder / "sleeper.py").write_text(SLEEPER)
    program = f"{sys.executable} {folder / 'sleeper.py'}"
    (folder / "description.py").write_text(DESCRIPTION.format(jobs=args.jobs, command=program, parallel=args.live))
    shares: dict[str, float] = {}
    for ui in ("none", "rich"):
        screen = Screen(command(folder, ui), folder, args.columns, args.rows)
        try:
            journal = folder / ui / "bench" / ".runner" / "journal.jsonl"
            pid = runner_pid(journal)
            while started(journal) < args.live:
                screen.read(0.2)
            screen.read_for(args.warm_up)
            before, received, began = cpu_s(pid), screen.received, time.monotonic()
            screen.read_for(args.seconds)
            took = time.monotonic() - began
            shares[ui] = (cpu_s(pid) - before) / took
            sent = (screen.received - received) / took
            share = f"{100 * shares[ui]:.2f} % of a core"
            print(f"--ui={ui}: {share}, {sent:,.0f} bytes/s, {rss_mb(pid):.0f} MB RSS", flush=True)
            if ui == "rich":
                report_latency(key_latencies(screen))
        finally:
            screen.end()
    print(f"the UI alone: {100 * (shares['rich'] - shares['none']):.2f} % of a core")


def key_latencies(screen: Screen, times: int = 40) -> list[float]:
    """From a key to the last byte that shows its effect."""
    found = []
    for number in range(times):
        screen.read_for(0.11 + 0.013 * (number % 7))  # at all distances from the regular frames
        os.write(screen.fd, b"?")
        found.append(screen.read_until(b"Moving about", 5))
        os.write(screen.fd, b"q")
        screen.read_until(b"walker", 5)
    return found


def report_latency(latencies: list[float]) -> None:
    latencies.sort()
    middle, worst = statistics.median(latencies), latencies[-1]
    print(f"key to screen: median {1000 * middle:.0f} ms, worst of {len(latencies)} {1000 * worst:.0f} ms", flush=True)


def measure_trivial(folder: Path, args: argparse.Namespace) -> None:
    (folder / "description.py").write_text(DESCRIPTION.format(jobs=args.jobs, command="true", parallel=2))

    def xargs() -> None:
        names = "\n".join(str(number) for number in range(args.jobs))
        subprocess.run(["xargs", "-P2", "-n1", "true"], input=names, text=True, check=True)

    def runner(ui: str) -> None:
        screen = Screen(command(folder, ui), folder, args.columns, args.rows)
        while os.waitpid(screen.pid, os.WNOHANG)[0] == 0:
            screen.read(0.02)
        os.close(screen.fd)

    reference = timed(xargs)
    print(f"xargs -P2: {reference:.1f} s", flush=True)
    for ui in ("none", "rich"):
        took = timed(lambda ui=ui: runner(ui))  # type: ignore[misc]
        print(f"--ui={ui}: {took:.1f} s, {took / reference:.2f} x", flush=True)


def timed(call: Callable[[], None]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("live", "trivial"))
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--live", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--warm_up", type=float, default=10.0)
    parser.add_argument("--columns", type=int, default=120)
    parser.add_argument("--rows", type=int, default=40)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (measure_live if args.what == "live" else measure_trivial)(Path(folder), args)


if __name__ == "__main__":
    main()
