"""What a run of many experiments costs those who look at it: time and peak memory of status, logs, cancel and restart.

    python benchmarks/journal_reading.py --jobs=100000
    python benchmarks/journal_reading.py --jobs=10000 --folder=/dev/shm

Makes up the journal of such a run (9 in 10 experiments succeeded, 1 in 20 failed after a retry, some run, the others
wait) and measures each command in a process of its own, twice: where nothing but the journal is there, and where the
command before has left the state beside it (`.runner/journal_state.json`). `restart` is the runner: it reads the
description and the journal, compares them and opens the run; the runs are the same in both, and nothing is started
(`--max_parallel=1` with a slot that is taken would wait, so the run is drained at once). `cancel` is that of a run
without a runner, of which no experiment has started: all of them are cancelled.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sf_runner.basics.paths import STATE_CACHE, RunPaths
from sf_runner.describe.loading import load_description
from sf_runner.describe.plan import Plan, make_plan
from sf_runner.engine.reconcile import ranks, reconcile
from sf_runner.state import events as ev
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import FailureCause

DESCRIPTION = """\
from sf_runner import Experiment, ParamGrid, RunDescription
params = ParamGrid([("seed", list(range(10))), ("lr", [f"{{i}}e-6" for i in range({jobs} // 10)])])
RUN_DESCRIPTION = RunDescription(
    "many",
    experiments=[Experiment("study", "true --algo=APPO --env=doom_basic", params.generate_params(randomize=False))],
)
"""
TRAIN_DIR = "./train_dir"  # as the commands call it
CAUSE = FailureCause(kind="exception", summary="ValueError: loss is nan", fingerprint="0badc0de")


def plan_of(description: Path) -> Plan:
    return make_plan(load_description(str(description)), TRAIN_DIR)


def write_journal(plan: Plan, *, ended: bool) -> int:
    """The journal of a run whose runner was killed; its size in bytes. Not `ended`: no experiment was started."""
    state, now = RunState(), time.time() - 86400.0
    plan.paths.runner_dir.mkdir(parents=True, exist_ok=True)
    lines: list[ev.Event] = [
        ev.JournalCreated(t=now, version=1, run_id=os.urandom(8).hex(), run_name=plan.run_name),
        ev.RunOpened(t=now, pid=1, host="elsewhere", backend="processes", boot_id="earlier", max_parallel=8),
    ]
    rank = ranks(plan, "submission", {})
    lines += reconcile(plan, state, ranks_by_job=rank, changed="refuse", retry=(), now=now)
    for number, job in enumerate(plan.jobs if ended else ()):
        now += 1.0
        attempts = 2 if number % 20 == 7 else 1
        for attempt in range(1, attempts + 1):
            lines.append(ev.AttemptSubmitted(t=now, job=job.job_id, attempt=attempt, placement={"cores": [number % 8]}))
            handle = {"pid": 1000 + number, "up": float(number), "boot": "earlier"}
            lines.append(ev.AttemptStarted(t=now, job=job.job_id, attempt=attempt, handle=handle))
            fails = attempts > 1
            verdict: ev.Verdict = "succeeded" if not fails else "retry" if attempt == 1 else "failed"
            lines.append(
                ev.AttemptEnded(
                    t=now + 9.0, job=job.job_id, attempt=attempt, verdict=verdict, code=int(fails), duration_s=9.0,
                    cause=CAUSE if fails else None, max_rss_mb=812.5, cpu_s=8.125,
                )
            )  # fmt: skip
        if number > 0.97 * len(plan.jobs):
            break
    with plan.paths.journal.open("w") as file:
        file.writelines(ev.encode(event) + "\n" for event in lines)
    return plan.paths.journal.stat().st_size


def measured(command: Sequence[str]) -> tuple[float, float, float]:
    """(seconds, CPU seconds, peak memory in MB) of a command in a process of its own."""
    root = str(Path(__file__).resolve().parent.parent)
    env = {**os.environ, "PYTHONPATH": root}
    started = time.perf_counter()
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {said}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def tool(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"sf_runner.{name}", *arguments]


RESTART = """\
import sys, time
from sf_runner.cli import session
from sf_runner.cli.options import parse
def no_loop(*_):
    return session.Outcome(exit_code=0)
session._run_loop = no_loop
import gc
gc.disable()
sys.exit(session.execute(session.prepare(parse(sys.argv[1:])), sys.argv[1:]))
"""


def in_a_child(call: Callable[[], object]) -> None:
    """Call it in a process of its own: what it needs of memory would count for every process started afterwards."""
    pid = os.fork()
    if pid == 0:
        call()
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0, "the journal could not be made"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where runs are put; default: a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as text:
        folder = Path(text)
        os.chdir(folder)
        Path("many.py").write_text(DESCRIPTION.format(jobs=options.jobs))
        paths = RunPaths(train_dir=Path("train_dir"), run_name="many")

        def make(*, ended: bool) -> None:
            in_a_child(lambda: write_journal(plan_of(Path("many.py")), ended=ended))

        make(ended=True)
        size = paths.journal.stat().st_size
        print(f"{options.jobs} experiments, {os.cpu_count()} cores, journal of {size / 2**20:.0f} MB")
        print(f"{'':24} {'journal only':>30}   {'state beside it':>30}")
        job = first_job(paths.journal)
        paths.job(job).job_dir.mkdir(parents=True)
        paths.job(job).attempt_log(1).write_text("hello\n")
        report("status", paths, tool("status", "many"))
        report("status --json", paths, tool("status", "many", "--json"))
        report("logs", paths, tool("logs", "many", job))
        flags = ["--run=many.py", "--num_gpus=0", "--max_parallel=1"]
        report("restart", paths, [sys.executable, "-c", RESTART, *flags])
        report("cancel all that wait", paths, tool("cancel", "many"), before=lambda: make(ended=False))


def first_job(journal: Path) -> str:
    """The first job that the journal tells of."""
    with journal.open() as file:
        for line in file:
            event = ev.decode(line.rstrip("\n"))
            if isinstance(event, ev.JobsPlanned):
                return str(event.jobs[0]["id"])
    raise AssertionError("no jobs")


def report(what: str, paths: RunPaths, command: Sequence[str], *, before: Callable[[], object] | None = None) -> None:
    """One line: the command without and with the state beside the journal."""
    cells = []
    for warm in (False, True):
        if before is not None:
            before()
        cache = paths.runner_dir / STATE_CACHE
        cache.unlink(missing_ok=True)
        if warm:
            measured(tool("status", paths.run_name))
        seconds, cpu_s, mb = measured(command)
        cells.append(f"{seconds:6.2f} s, {cpu_s:5.2f} s CPU, {mb:4.0f} MB")
    print(f"{what:24} {cells[0]:>30}   {cells[1]:>30}", flush=True)


if __name__ == "__main__":
    main()
