"""The dummy sampler as a command: progress while it runs, a table and results.json at the end."""

from __future__ import annotations

import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

from sf_algo.config import Config, Invocation
from sf_algo.cpus import usable_cpus
from sf_algo.experiment import make_experiment_dir
from sf_algo.own.additions import Additions, additions_of, is_importable
from sf_algo.paths import ExperimentPaths
from sf_algo.processes.copies import ForkedCopy
from sf_algo.rollout.env_maker import EnvMaker
from sf_algo.speed.dummy_sampler.sampler import DummySampler, Measured
from sf_algo.speed.dummy_sampler.settings import DummyPlan, make_plan
from sf_algo.speed.dummy_sampler.worker import run_forked
from sf_algo.summaries.progress import ProgressFile, write_results

_PHASE = "sampling"


@contextmanager
def _noticing_signals() -> Iterator[Callable[[], int | None]]:
    """SIGINT and SIGTERM do not interrupt; the function given says which one has come."""
    received: list[int] = []

    def notice(number: int, frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, notice) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_dummy_sampler(invocation: Invocation) -> int:
    """Steps environments until a limit of the command line or a signal; returns the exit code.

    Raises SfAlgoError where environments cannot be made, a worker fails, or the folder cannot be written.
    """
    config = invocation.config
    plan = make_plan(config, invocation.typed)
    paths = ExperimentPaths(config.run.experiment_dir)
    make_experiment_dir(paths)
    additions = additions_of(invocation)
    copies = _copies(config, plan, additions)
    try:
        return _run(config, plan, paths, EnvMaker(config, additions=additions), copies)
    finally:
        for copy in copies:
            copy.let_go()


def _copies(config: Config, plan: DummyPlan, additions: Additions) -> list[ForkedCopy]:
    """Workers for environments that no import path leads to; empty where a new process finds them."""
    made: list[ForkedCopy] = []
    if not is_importable(config.run.env, additions) and ForkedCopy.possible():
        for _ in range(plan.num_workers):
            made.append(ForkedCopy(partial(run_forked, additions=additions), made))
    return made


def _run(config: Config, plan: DummyPlan, paths: ExperimentPaths, maker: EnvMaker, copies: Sequence[ForkedCopy]) -> int:
    maker.clean_up()
    maker.spec()  # a wrong name, a missing map or package: one line before any process is started
    seed = config.run.seed if config.run.seed is not None else secrets.randbits(31)
    print(
        f"{config.run.env}: {plan.num_workers} workers x {plan.envs_per_worker} environments on "
        f"{usable_cpus()} cores, random actions{'' if plan.is_limited else '; Ctrl-C ends it'}",
        flush=True,
    )
    with (
        _noticing_signals() as signal_received,
        DummySampler(config, plan, seed=seed, clean_up=maker.clean_up, forked_copies=copies) as sampler,
    ):
        if sampler.wait_until_ready(lambda: signal_received() is None):
            sampler.begin()
            _sample(sampler, plan, config, signal_received)
        sampler.stop()
        measured = sampler.measure()
    stopped_by = signal_received()
    report = _results(config, plan, measured, stopped_by)
    _report_progress(measured, plan, report["fps"])
    write_results(paths.results, report)
    _print_table(report)
    return 0 if stopped_by is None else 128 + stopped_by


def _sample(sampler: DummySampler, plan: DummyPlan, config: Config, signal_received: Callable[[], int | None]) -> None:
    last = sampler.measure()
    next_line = time.monotonic() + config.run.status_interval
    while signal_received() is None and not sampler.finished:
        now = sampler.watch()
        if plan.timeout_s is not None and now.seconds >= plan.timeout_s:
            return
        if plan.max_frames is not None and now.total_frames >= plan.max_frames:
            return
        if time.monotonic() >= next_line:
            next_line += config.run.status_interval
            _print_progress(last, now, plan)
            last = now


def _print_progress(last: Measured, now: Measured, plan: DummyPlan) -> None:
    fps = (now.total_frames - last.total_frames) / max(1e-9, now.seconds - last.seconds)
    mean_fps = now.total_frames / max(1e-9, now.seconds)
    total = plan.total_frames
    share = f" of {total:,}" if total is not None else ""
    print(
        f"[{now.seconds:6.0f} s] {now.total_frames:,}{share} frames, {fps:,.0f} frames/s "
        f"(mean {mean_fps:,.0f}), {now.episodes:,} episodes",
        flush=True,
    )
    _report_progress(now, plan, fps)


def _report_progress(now: Measured, plan: DummyPlan, fps: float) -> None:
    total = plan.total_frames
    ProgressFile.from_environment().write(
        phase=_PHASE,
        step=now.total_frames,
        total=total,
        fps=fps,
        metrics={"episodes": float(now.episodes)},
        eta_s=max(0, total - now.total_frames) / fps if total is not None and fps > 0 else None,
    )


def _results(config: Config, plan: DummyPlan, measured: Measured, stopped_by: int | None) -> dict[str, Any]:
    seconds = max(1e-9, measured.seconds)
    fps = measured.total_frames / seconds
    cores = usable_cpus()
    return {
        "algo": "DUMMY_SAMPLER",
        "env": config.run.env,
        "status": "finished" if stopped_by is None else signal.Signals(stopped_by).name,
        "num_workers": plan.num_workers,
        "num_envs_per_worker": plan.envs_per_worker,
        "cores": cores,
        "seconds": measured.seconds,
        "frames": measured.total_frames,
        "episodes": measured.episodes,
        "fps": fps,
        "fps_per_env": fps / plan.num_envs,
        "fps_per_core": fps / min(cores, plan.num_workers),
        "frames_per_cpu_s": measured.total_frames / measured.cpu_s if measured.cpu_s else None,
        "worker_fps": [frames / seconds for frames in measured.frames],
    }


def _print_table(report: dict[str, Any]) -> None:
    rows = [
        ("frames", f"{report['frames']:,} in {report['seconds']:.1f} s, {report['episodes']:,} episodes"),
        ("frames/s", f"{report['fps']:,.0f}"),
        ("per environment", f"{report['fps_per_env']:,.0f}"),
        ("per core", f"{report['fps_per_core']:,.0f}"),
        ("per worker", ", ".join(f"{fps:,.0f}" for fps in report["worker_fps"])),
    ]
    if report["frames_per_cpu_s"]:
        rows.append(("frames per CPU second", f"{report['frames_per_cpu_s']:,.0f} (start included)"))
    for name, value in rows:
        print(f"{name:<22} {value}")
    sys.stdout.flush()
