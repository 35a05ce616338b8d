"""What the runner costs: N trivial jobs against `xargs -P` and GNU parallel, interleaved in one run.

    python benchmarks/runner_overhead.py --jobs=10000 --parallel=2 --rounds=3

Prints the wall time of each contender as a ratio to `xargs -P`, its CPU seconds, the runner's peak memory (guardians
and runner together), how long a slot stays empty between two jobs, from the journal, and how long that journal takes to
read. Everybody runs the same `true`; the runner also makes two folders and writes a log, an exit record and the journal
for each job. What that costs depends on the file system: `--folder=/dev/shm` leaves its cost out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

DESCRIPTION = """\
from sf_runner import Experiment, ParamGrid, RunDescription
RUN_DESCRIPTION = RunDescription(
    "overhead",
    experiments=[Experiment("job", ["true"], ParamGrid([("x", list(range({jobs})))]).generate_params())],
)
"""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One run of one contender. `rss_mb`: peak of its own processes together; None: not measured."""

    wall_s: float
    cpu_s: float
    rss_mb: float | None = None


def measure(command: list[str], *, cwd: Path, stdin: str | None = None, rss_of: str = "") -> Sample:
    """Run to the end; CPU seconds of all its descendants. `rss_of`: watch processes whose command line holds this."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment()
    )
    watch = _RssWatch(rss_of) if rss_of else None
    process.communicate(stdin)
    wall_s = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode != 0:
        raise SystemExit(f"{command[0]} ended with {process.returncode}")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Sample(wall_s=wall_s, cpu_s=cpu_s, rss_mb=watch.stop() if watch else None)


def environment() -> dict[str, str]:
    """That of every contender. Python finds compiled modules as it does where it may write (`compile_modules`)."""
    root = str(Path(__file__).resolve().parent.parent)
    path = os.environ.get("PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": root if not path else f"{root}{os.pathsep}{path}"}


def compile_modules(root: Path, parallel: int, ui: str) -> None:
    """Run one job unmeasured, so that no measured run has to compile the runner's modules: nobody's second run does."""
    folder = root / "first"
    folder.mkdir()
    (folder / "overhead_description.py").write_text(DESCRIPTION.format(jobs=1))
    measure(runner_command(parallel, ui), cwd=folder)


class _RssWatch:
    """Samples the proportional set size of matching processes; shared pages count once.

    A process counts from the second sample on: for an instant, between vfork and exec, every job is a process with the
    runner's command line and all of the runner's memory.
    """

    def __init__(self, text: str) -> None:
        self._text = text.encode()
        self._peak_kb = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        before: set[str] = set()
        while not self._done.wait(0.2):
            found: dict[str, int] = {}
            for entry in Path("/proc").iterdir():
                try:
                    if entry.name.isdigit() and self._text in (entry / "cmdline").read_bytes():
                        rollup = (entry / "smaps_rollup").read_text()
                        pss = next(line for line in rollup.splitlines() if line.startswith("Pss:"))
                        found[entry.name] = int(pss.split()[1])
                except (OSError, StopIteration, ValueError):
                    continue
            self._peak_kb = max(self._peak_kb, sum(kb for pid, kb in found.items() if pid in before))
            before = set(found)

    def stop(self) -> float:
        self._done.set()
        self._thread.join()
        return self._peak_kb / 1024


def contenders(jobs: int, parallel: int, ui: str) -> dict[str, Callable[[Path], Sample]]:
    numbers = "".join(f"{i}\n" for i in range(jobs))
    found: dict[str, Callable[[Path], Sample]] = {
        "xargs": lambda cwd: measure(["xargs", f"-P{parallel}", "-n1", "true"], cwd=cwd, stdin=numbers),
        "runner": lambda cwd: measure(runner_command(parallel, ui), cwd=cwd, rss_of="--run=overhead_description.py"),
    }
    if shutil.which("parallel"):
        found["GNU parallel"] = lambda cwd: measure(["parallel", f"-j{parallel}", "true"], cwd=cwd, stdin=numbers)
        found["GNU parallel, joblog and results"] = lambda cwd: measure(
            ["parallel", f"-j{parallel}", "--joblog", "joblog", "--results", "results", "true"], cwd=cwd, stdin=numbers
        )
    return found


def runner_command(parallel: int, ui: str) -> list[str]:
    return [
        sys.executable, "-m", "sf_runner.run", "--run=overhead_description.py", f"--max_parallel={parallel}",
        "--num_gpus=0", f"--ui={ui}",
    ]  # fmt: skip


def gaps_ms(journal: Path) -> list[float]:
    """Milliseconds between the end of an attempt and the start that took its place, in order."""
    ends: list[float] = []
    gaps: list[float] = []
    for line in journal.read_text().splitlines():
        event = json.loads(line)
        if event["e"] == "ended":
            ends.append(event["t"])
        elif event["e"] == "started" and ends:
            gaps.append(1000 * (event["t"] - ends.pop(0)))
    return gaps


REPLAY = """\
import sys, time
from pathlib import Path
from sf_runner.store.follower import JournalFollower
started = time.perf_counter()
JournalFollower(Path(sys.argv[1])).catch_up()
print(time.perf_counter() - started)
"""


def replay_s(journal: Path) -> float:
    """Seconds to read the journal and fold it to the state of the run, in a fresh process."""
    command = [sys.executable, "-c", REPLAY, str(journal)]
    return float(subprocess.run(command, env=environment(), check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where runs are put; default: a temporary folder")
    parser.add_argument("--only", help="names of the contenders, comma-separated; default: all that are installed")
    parser.add_argument("--ui", default="none", choices=("none", "plain"), help="what the runner shows (to nobody)")
    parser.add_argument("--json", type=Path, help="write the samples here")
    options = parser.parse_args()
    everyone = contenders(options.jobs, options.parallel, options.ui)
    if options.only:
        wanted = {"xargs", *options.only.split(",")}
        everyone = {name: run for name, run in everyone.items() if name in wanted}
    samples: dict[str, list[Sample]] = {name: [] for name in everyone}
    gaps: list[float] = []
    replays: list[float] = []
    # Nothing is deleted before the end: ext4 hands out an inode again only minutes after its file was deleted. Until
    # then it looks through all of those for a free one, which makes a new file ten to twenty times as expensive.
    with tempfile.TemporaryDirectory(dir=options.folder) as root:
        compile_modules(Path(root), options.parallel, options.ui)
        for number in range(options.rounds):
            for name, run in everyone.items():
                folder = Path(root) / f"{name} {number}"
                folder.mkdir()
                (folder / "overhead_description.py").write_text(DESCRIPTION.format(jobs=options.jobs))
                samples[name].append(run(folder))
                if name == "runner":
                    journal = folder / "train_dir/overhead/.runner/journal.jsonl"
                    gaps += gaps_ms(journal)
                    replays.append(replay_s(journal))
    report(samples, gaps, options)
    if replays:
        print(f"replay of the journal: {statistics.median(replays):.2f} s")
    if options.json:
        body = {"machine": platform.platform(), "cores": os.cpu_count(), "jobs": options.jobs}
        kept = {name: [asdict(sample) for sample in found] for name, found in samples.items()}
        options.json.write_text(json.dumps({**body, "samples": kept}, indent=1))


def report(samples: dict[str, list[Sample]], gaps: list[float], options: argparse.Namespace) -> None:
    print(f"{options.jobs} x true, {options.parallel} at a time, {os.cpu_count()} cores, median of {options.rounds}")
    print(f"{'':34} {'wall s':>8} {'/ xargs':>8} {'CPU s':>8} {'MB':>6}")
    for name, found in samples.items():
        ratio = statistics.median(s.wall_s / x.wall_s for s, x in zip(found, samples["xargs"], strict=True))
        wall = statistics.median(s.wall_s for s in found)
        cpu = statistics.median(s.cpu_s for s in found)
        rss = [s.rss_mb for s in found if s.rss_mb is not None]
        memory = f"{max(rss):6.1f}" if rss else ""
        print(f"{name:34} {wall:8.2f} {ratio:8.2f} {cpu:8.2f} {memory}")
    if len(gaps) > 1:
        cuts = statistics.quantiles(gaps, n=100)
        print(
            f"end of a job to the next start: median {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms, worst {max(gaps):.1f} ms"
        )


if __name__ == "__main__":
    main()
