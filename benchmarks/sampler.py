"""The dummy sampler against the usual Python path: Sample Factory 2.1.1's own environments stepped at random.

    python benchmarks/sampler.py [--env=doom_benchmark] [--pairs=3] [--seconds=15]

Both with as many processes as there are cores, in turns; the peer free to move, and pinned as ours. A figure is the
slope of frames over time after a warm-up. Then one of our environments is stepped in this process with a clock around
what is inevitable: the engine, and the reduction of its screen to the observation.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import programs

from sf_algo.config.resolve import Command, parse_args
from sf_algo.envs.doom.doom_env import DoomEnv
from sf_algo.rollout.env_maker import EnvMaker

NUM_ENVS = 16
HERE = Path(__file__).resolve().parent


def commands(env: str, cores: int, peer: Path) -> dict[str, list[str]]:
    ours = [sys.executable, "-m", "sf_algo.run_algorithm", "--algo=DUMMY_SAMPLER", f"--env={env}", "--seed=1"]
    ours += [f"--num_workers={cores}", f"--num_envs_per_worker={NUM_ENVS}", "--status_interval=0.5"]
    ours += ["--sample_env_frames=1000000000"]
    theirs = [str(peer), str(HERE / "peer_sampler.py"), f"--env={env}", f"--num_workers={cores}"]
    theirs += [f"--num_envs={NUM_ENVS}"]
    return {"ours": ours, "peer": theirs, "peer, pinned": [*theirs, "--pinned"]}


def frames_per_s(command: list[str], *, warm_up_s: float, seconds: float) -> tuple[float, float]:
    """And us of processor time of all its processes for one frame."""
    with programs.started(command) as running:
        conditions = running.run_for(warm_up_s=warm_up_s, seconds=seconds)
        fps = running.frames_per_s(warm_up_s)
    return fps, 1e6 * conditions.own_cores / fps


class Clock:
    """Seconds inside of the calls that it is put around."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            began = time.perf_counter()
            result = call(*args)
            self.seconds += time.perf_counter() - began
            return result

        return timed


def inevitable_share(name: str, steps: int) -> tuple[float, float]:
    """(share of the time of a step inside the engine and the reduction of its screen, us of a whole step)."""
    invocation = parse_args(["--algo=DUMMY_SAMPLER", f"--env={name}"], Command.RUN_ALGORITHM)
    env = EnvMaker(invocation.config).make(0)
    if not isinstance(env, DoomEnv):
        raise SystemExit(f"--env={name}: only VizDoom's environments can be looked into")
    try:
        rows: list[Any] = env.spec.empty_rows()
        env.reset(rows, seed=1)
        clock = Clock()
        for owner, method in ((env._engine, "act"), (env._engine, "observe"), (env, "_sample_planes")):
            setattr(owner, method, clock.around(getattr(owner, method)))
        actions = env.spec.actions.sample(np.random.default_rng(1), steps)
        total = 0.0
        for action in actions:
            began = time.perf_counter()
            result = env.step(action[None], rows)
            total += time.perf_counter() - began
            if result.terminated[0] or result.truncated[0]:
                env.reset(rows)
        return clock.seconds / total, total / steps * 1e6
    finally:
        env.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="doom_benchmark")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--warm_up", type=float, default=5.0)
    parser.add_argument("--peer_venv", type=Path, default=programs.CACHE / "peer_venv")
    options = parser.parse_args()
    peer = programs.prepare_venv(options.peer_venv, programs.PEER_PACKAGES)
    found: dict[str, list[tuple[float, float]]] = {}
    for turn in range(options.pairs):
        for name, command in commands(options.env, len(os.sched_getaffinity(0)), peer).items():
            figure = frames_per_s(command, warm_up_s=options.warm_up, seconds=options.seconds)
            found.setdefault(name, []).append(figure)
            print(f"{turn + 1} {name:12} {figure[0]:9,.0f} frames/s, {figure[1]:6,.1f} core us/frame", flush=True)
    ours = statistics.median(fps for fps, _ in found["ours"])
    for name, figures in found.items():
        fps = statistics.median(fps for fps, _ in figures)
        core_us = statistics.median(us for _, us in figures)
        print(f"{name:12} {fps:9,.0f} frames/s (median), {core_us:6,.1f} core us/frame, ours / this {ours / fps:.2f}")
    share, step_us = inevitable_share(options.env, steps=5_000)
    print(f"inside the engine and the reduction of its screen: {share:.1%} of a step of {step_us:,.0f} us")


if __name__ == "__main__":
    main()
