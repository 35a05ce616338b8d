"""Frames per second against environments (1 to 64) and against experiments side by side (1, 2, 4).

    python benchmarks/scaling.py --workload=doom_benchmark --curve=envs --json=envs.json
    python benchmarks/scaling.py --workload=doom_benchmark --curve=experiments --json=experiments.json

Every point is a training of ours of its own, with the network and batch of the workload. Environments are spread over
as many workers as there are cores (fewer where there are fewer environments); the figure for experiments is the sum
over all that run at the same time.
"""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import programs
from workloads import WORKLOADS, Setting, Workload, command, serial, topology

ENVS = (1, 2, 4, 8, 16, 32, 64)
EXPERIMENTS = (1, 2, 4)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of a curve; several experiments are measured over the same seconds."""

    envs: int
    experiments: int
    frames_per_s: float
    disturbed_cores: float


def setting_for(load: Workload, envs: int, cores: int) -> Setting:
    """The kind of setting that is fastest for the workload, with that many environments."""
    if "--serial_mode=True" in load.settings["ours"][0].flags:
        return serial(envs, "--async_rl=True")
    workers = min(cores, envs)
    per_worker = envs // workers
    return topology(workers, per_worker, f"--worker_num_splits={2 if per_worker % 2 == 0 else 1}")


def measure(load: Workload, envs: int, experiments: int, *, warm_up_s: float, seconds: float) -> Point:
    setting = setting_for(load, envs, int(str(programs.machine()["cores"])))
    words = command("ours", load, setting, Path(), seconds=warm_up_s + seconds + 300)
    with ExitStack() as stack:
        runs = [stack.enter_context(programs.started(words)) for _ in range(experiments)]
        for run in runs[1:]:
            run.wait_for_frames()
        conditions = runs[0].run_for(warm_up_s=warm_up_s, seconds=seconds, others=runs[1:])
        first = max(run.points[0][0] + run.started for run in runs) + warm_up_s
        fps = sum(run.frames_per_s(first - run.started - run.points[0][0]) for run in runs)
    others = sum(conditions.own_cores for _ in runs[1:])
    disturbed = max(0.0, conditions.other_cores - others) + conditions.stolen_cores
    return Point(envs=envs, experiments=experiments, frames_per_s=fps, disturbed_cores=disturbed)


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--workload", choices=sorted(WORKLOADS), required=True)
    parser.add_argument("--curve", choices=("envs", "experiments"), required=True)
    parser.add_argument("--counts", help="comma-separated, instead of all")
    parser.add_argument("--envs", type=int, default=32, help="environments of each experiment on that curve")
    parser.add_argument("--seconds", type=float, default=12.0, help="measured time of a point")
    parser.add_argument("--warm_up", type=float, default=4.0)
    parser.add_argument("--json", type=Path, help="add the points to this file")
    options = parser.parse_args()
    load = WORKLOADS[options.workload]
    by_envs = options.curve == "envs"
    counts = [int(n) for n in options.counts.split(",")] if options.counts else (ENVS if by_envs else EXPERIMENTS)
    points: list[Point] = []
    for count in counts:
        envs, experiments = (count, 1) if by_envs else (options.envs, count)
        point = measure(load, envs, experiments, warm_up_s=options.warm_up, seconds=options.seconds)
        points.append(point)
        print(
            f"{load.name}: {experiments} x {envs} environments: {point.frames_per_s:,.0f} frames/s in all, "
            f"disturbed by {point.disturbed_cores:.2f} cores",
            flush=True,
        )
    if options.json:
        known = json.loads(options.json.read_text())["points"] if options.json.exists() else []
        body = [*known, *({"workload": load.name, **asdict(point)} for point in points)]
        options.json.write_text(json.dumps({"machine": programs.machine(), "points": body}, indent=1))


if __name__ == "__main__":
    main()
