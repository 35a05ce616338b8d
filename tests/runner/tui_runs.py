"""Runs in every state, made of real events and real files, at a fixed time."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sf_runner.basics.paths import RunPaths
from sf_runner.engine.screen import RunView
from sf_runner.slots.devices import GpuInfo, GpuProcess, GpuSnapshot
from sf_runner.state import events as ev
from sf_runner.state.fold import RunState
from sf_runner.state.jobs import FailureCause
from sf_runner.tui.app import App
from sf_runner.tui.machine import Machine, MachineProbe
from sf_runner.tui.text import plain
from sf_runner.tui.theme import Theme
from sf_runner.tui.ui_state import Mode

NOW = 1_700_000_000.0
NO_PROCESS = 4_999_999
"""Above the kernel's highest process id: nobody's, whatever session the tests run in."""
ON_A_GPU = NO_PROCESS - 1
"""What holds memory of a GPU for job 6. Screens that show it say who owns it with `owned_by_its_leader`."""
RATES = (0.0001, 0.0003, 0.001, 0.003, 0.01)
SEEDS = (0, 1111, 2222)
NAN = FailureCause(kind="exception", summary="ValueError: loss is nan in train.py:learn", fingerprint="a1")
OOM = FailureCause(kind="gpu_oom", summary="out of GPU memory", fingerprint="b2")


def name_of(index: int) -> str:
    rate, seed = RATES[index // len(SEEDS)], SEEDS[index % len(SEEDS)]
    return f"walker_/{index:02}_walker_l.rat_{rate}_see_{seed}"


def opening(at: float = NOW - 900, *, jobs: int = 15, max_parallel: int = 4) -> list[ev.Event]:
    entries = [
        {
            "id": name_of(index), "index": index, "rank": float(index), "fp": str(index), "config": "c",
            "argv": ["python", "-m", "train", f"--learning_rate={RATES[index // 3]}", f"--seed={SEEDS[index % 3]}"],
            "params": {"learning_rate": RATES[index // 3], "seed": SEEDS[index % 3]},
        }
        for index in range(jobs)
    ]  # fmt: skip
    return [
        ev.JournalCreated(t=at, version=1, run_id="r1", run_name="walker_study"),
        ev.RunOpened(t=at, pid=4242, host="node7", backend="processes", max_parallel=max_parallel),
        ev.JobsPlanned(t=at, jobs=entries),
    ]


def started(index: int, at: float, *, attempt: int = 1, gpu: int | None = None, pid: int = 0) -> list[ev.Event]:
    placement = {} if gpu is None else {"gpu_uuids": [f"GPU-{gpu}"], "gpu_indices": [gpu]}
    handle = {"pid": pid} if pid else {}
    return [
        ev.AttemptSubmitted(t=at, job=name_of(index), attempt=attempt, placement=placement),
        ev.AttemptStarted(t=at, job=name_of(index), attempt=attempt, handle=handle),
    ]


def ended(index: int, at: float, took: float, *, attempt: int = 1, cause: FailureCause | None = None) -> ev.Event:
    return ev.AttemptEnded(
        t=at,
        job=name_of(index),
        attempt=attempt,
        verdict="failed" if cause else "succeeded",
        code=int(cause is not None),
        duration_s=took,
        cause=cause,
    )


def retried(index: int, at: float, took: float, *, not_before: float, cause: FailureCause) -> ev.Event:
    job = name_of(index)
    return ev.AttemptEnded(
        t=at, job=job, attempt=1, verdict="retry", code=1, duration_s=took, cause=cause, not_before=not_before
    )


def middle(*, gpus: bool = False) -> list[ev.Event]:
    """Some done, one failed, one to be tried again, one told to end, the rest running or waiting."""
    events = opening()
    for index in range(5):
        events += started(index, NOW - 880 + index, gpu=index % 4 if gpus else None)
    for index, took in ((0, 400.0), (1, 420.0), (2, 390.0)):
        events.append(ended(index, NOW - 470 + 10 * index, took))
    events.append(ended(3, NOW - 440, 437.0, cause=NAN))
    events.append(retried(4, NOW - 420, 455.0, not_before=NOW + 12, cause=OOM))
    for index in range(5, 9):
        pid = ON_A_GPU if index == 6 else 0
        events += started(index, NOW - 400 + 30 * index, gpu=index % 4 if gpus else None, pid=pid)
    events.append(ev.StopRequested(t=NOW - 3, job=name_of(8), attempt=1, reason="cancelled"))
    return events


def owned_by_its_leader(pid: int, sessions: Mapping[int, str]) -> str | None:
    """As `owner_of`, for processes that do not exist: each is its job's main one, or a stranger."""
    return sessions.get(pid)


def finished(*, failed: bool) -> list[ev.Event]:
    events = opening(jobs=6)
    for index in range(6):
        events += started(index, NOW - 880)
        events.append(ended(index, NOW - 300 + index, 580.0 + index, cause=NAN if failed and index in (2, 4) else None))
    return [*events, ev.RunClosed(t=NOW - 290, exit_code=int(failed))]


def write_progress(
    paths: RunPaths, index: int, fraction: float, *, total: int = 10_000_000, ago: float = 1.0, attempt: int = 0
) -> None:
    """A job's progress file, its history and its log, all with the times they would have."""
    job = paths.job(name_of(index))
    job.job_dir.mkdir(parents=True, exist_ok=True)
    points = [part / 30 * fraction for part in range(31)]
    records = [_record(point, total, NOW - ago - (30 - number), index) for number, point in enumerate(points)]
    job.progress_history.write_text("".join(json.dumps(record) + "\n" for record in records))
    job.progress.write_text(json.dumps({**records[-1], **({"attempt": attempt} if attempt else {})}))
    log = job.attempt_log(1)
    log.write_text("".join(f"step {r['step']:>9,} reward {r['metrics']['reward']:8.2f}\n" for r in records))
    for path in (job.progress, log):
        os.utime(path, (NOW - ago, NOW - ago))


def _record(fraction: float, total: int, at: float, index: int) -> dict[str, Any]:
    reward = -130 * (1 - fraction) ** 2 - 13 + index
    return {
        "version": 1, "time": at, "phase": "train", "step": int(total * fraction), "total": total,
        "fps": 18_000 + 250 * index, "eta_s": round(600 * (1 - fraction)),
        "metrics": {"reward": round(reward, 3), "loss": round(2 - fraction, 4)},
    }  # fmt: skip


def middle_files(paths: RunPaths) -> None:
    for index, fraction in ((0, 1.0), (1, 1.0), (2, 1.0), (3, 0.7), (5, 0.62), (6, 0.41), (8, 0.05)):
        write_progress(paths, index, fraction)


def four_gpus() -> GpuSnapshot:
    def gpu(index: int, **more: object) -> GpuInfo:
        values: dict[str, object] = {
            "uuid": f"GPU-{index}", "index": index, "name": "NVIDIA A100-SXM4-80GB", "memory_total_mb": 81_920,
            "memory_used_mb": 21_000, "memory_free_mb": 60_920, "utilization_pct": 70 + 7 * index,
            "temperature_c": 61 + 9 * index, "processes": (GpuProcess(pid=ON_A_GPU, memory_mb=20_500),),
        }  # fmt: skip
        return GpuInfo(**{**values, **more})  # type: ignore[arg-type]

    strange = GpuProcess(pid=NO_PROCESS, memory_mb=9_000)
    return GpuSnapshot(
        gpus=(
            gpu(0, processes=(), memory_used_mb=500),
            gpu(1, processes=(strange,), memory_used_mb=9_500),
            gpu(2, temperature_c=None, utilization_pct=None),
            gpu(3, lost=True),
        ),
        driver="580.1",
    )


class FakeMachine(MachineProbe):
    def read(self, now: float) -> Machine:
        return Machine(cores=16, cpu=0.62, load=9.8, memory_used_mb=23_600, memory_total_mb=64_000)


def view_of(events: Sequence[ev.Event], **more: object) -> RunView:
    state = RunState()
    state.apply_all(events)
    view = RunView(now=NOW, state=state, gpus=GpuSnapshot())
    return replace(view, **more)  # type: ignore[arg-type]


def make_app(paths: RunPaths, *, mode: Mode = "runner", unicode: bool = True) -> App:
    return App(paths, Theme.make("256", unicode=unicode), mode, local=True, machine=FakeMachine())


def screen_text(app: App, view: RunView, columns: int, rows: int) -> str:
    """The frame as text, without blanks at the ends of lines."""
    return "".join(plain(line).rstrip() + "\n" for line in app.frame(view, columns, rows))


def run_paths(folder: Path) -> RunPaths:
    return RunPaths(train_dir=folder, run_name="walker_study")
