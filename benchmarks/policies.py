"""Speed, memory and processes against the number of policies, of agents in an environment and of earlier selves.

    python benchmarks/policies.py --curve=policies [--counts=1,2,4,8] [--workload=doom_benchmark]
    python benchmarks/policies.py --curve=agents
    python benchmarks/policies.py --curve=opponents

Every point is a training of its own. Without a workload it is one of small vectors in matches of several agents, whose
environments cost next to nothing: what is measured is the trainer. Frames are those of policies in training. Core time
per frame is that of all processes; it hardly depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import memory
import numpy as np
import programs
from numpy.typing import NDArray
from workloads import WORKLOADS, command

from sf_algo.envs.spec import PLAIN_OBS, ActionSpec, Discrete, Env, EnvPlacement, EnvSpec, ObsRow, ObsSpec, StepResult

COUNTS = {"policies": (1, 2, 4, 8), "agents": (1, 2, 4, 8), "opponents": (0, 1, 2, 4)}
TRAJECTORIES = 32
"""Agents in all, on every curve."""


class Matches:
    """Random vectors, rewards that belong to nobody's deeds: an environment that costs nothing."""

    def __init__(self, num_agents: int, length: int = 100) -> None:
        obs = {PLAIN_OBS: ObsSpec(shape=(32,), dtype=np.dtype(np.float32))}
        self.spec = EnvSpec(obs=obs, actions=ActionSpec((Discrete(6),)), num_agents=num_agents)
        self._rng = np.random.default_rng(1)
        self._length, self._step = length, 0
        self._active, self._flags = np.ones(num_agents, np.bool_), np.zeros(num_agents, np.bool_)

    def reset(self, out: Sequence[ObsRow], *, seed: int | None = None) -> None:
        self._step = 0
        self._write(out)

    def _write(self, out: Sequence[ObsRow]) -> None:
        for row in out:
            row[PLAIN_OBS][:] = self._rng.random(32, np.float32)

    def step(self, actions: NDArray[np.float32], out: Sequence[ObsRow]) -> StepResult:
        self._step += 1
        self._write(out)
        rewards = self._rng.random(len(self._active), np.float32)
        over = self._step == self._length
        ended = self._active if over else self._flags
        return StepResult(rewards, ended, self._flags, self._active, {} if over else None)

    def close(self) -> None:
        pass


def make_matches(placement: EnvPlacement, num_agents: int = 2) -> Env:
    """`--env=policies:make_matches --env.num_agents=2`"""
    return Matches(num_agents)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One training."""

    curve: str
    count: int
    frames_per_s: float
    core_us_per_frame: float
    pss_mb: float
    """Of all its processes together."""
    processes: dict[str, int]
    """How many there are, by their names."""
    learner_pss_mb: float
    """Of all learner processes together."""
    disturbed_cores: float


def small_command(curve: str, count: int, seconds: float) -> list[str]:
    agents = count if curve == "agents" else 2
    flags = ["--env=policies:make_matches", f"--env.num_agents={agents}", "--num_workers=2", "--worker_num_splits=2"]
    flags += [f"--num_envs_per_worker={TRAJECTORIES // 2 // agents}", "--rollout=32", "--batch_size=1024"]
    flags += ["--use_rnn=False", "--hidden_size=64", "--encoder_mlp_layers", "64", "64", "--device=cpu", "--seed=1"]
    flags += ["--train_dir={folder}", "--experiment=run", f"--train_for_seconds={seconds:g}", "--status_interval=0.5"]
    return [sys.executable, "-m", "sf_algo.train_appo", *flags, *curve_flags(curve, count)]


def curve_flags(curve: str, count: int) -> list[str]:
    if curve == "policies":
        return [f"--num_policies={count}"]
    if curve == "opponents" and count:
        return ["--self_play=past", f"--self_play_opponents={count}", "--self_play_period_env_steps=20000"]
    return []


def measure(words: Sequence[str], curve: str, count: int, *, warm_up_s: float, seconds: float) -> Point:
    with programs.started(words, env={"PYTHONPATH": str(Path(__file__).parent)}) as running:
        conditions = running.run_for(warm_up_s=warm_up_s, seconds=seconds)
        sizes: list[tuple[str, float]] = []
        for pid in running.pids:
            with suppress(OSError):  # it has just ended
                sizes.append((Path(f"/proc/{pid}/comm").read_text().strip(), memory.pss_mb(pid)))
        fps = running.frames_per_s(warm_up_s)
    return Point(
        curve=curve,
        count=count,
        frames_per_s=fps,
        core_us_per_frame=1e6 * conditions.own_cores / fps,
        pss_mb=sum(mb for _, mb in sizes),
        processes=dict(Counter(name for name, _ in sizes)),
        learner_pss_mb=sum(mb for name, mb in sizes if name == "sf_learner"),
        disturbed_cores=conditions.other_cores + conditions.stolen_cores,
    )


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--curve", choices=sorted(COUNTS), required=True)
    parser.add_argument("--counts", help="comma-separated, instead of all")
    parser.add_argument("--workload", choices=sorted(WORKLOADS), help="for --curve=policies")
    parser.add_argument("--seconds", type=float, default=12.0, help="measured time of a point")
    parser.add_argument("--warm_up", type=float, default=4.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.workload and options.curve != "policies":
        parser.error("--workload: its environments have one agent, so there is only --curve=policies")
    counts = [int(n) for n in options.counts.split(",")] if options.counts else COUNTS[options.curve]
    points = []
    for count in counts:
        limit_s = options.warm_up + options.seconds + 300
        words = small_command(options.curve, count, limit_s)
        if options.workload:
            load = WORKLOADS[options.workload]
            words = command("ours", load, load.settings["ours"][0], Path(), seconds=limit_s)
            words += curve_flags(options.curve, count)
        point = measure(words, options.curve, count, warm_up_s=options.warm_up, seconds=options.seconds)
        points.append(point)
        kinds = ", ".join(f"{number} {name}" for name, number in sorted(point.processes.items()))
        print(
            f"{point.count} {point.curve}: {point.frames_per_s:,.0f} frames/s, {point.core_us_per_frame:.0f} us of "
            f"cores per frame, {point.pss_mb:,.0f} MB (learners {point.learner_pss_mb:,.0f} MB), {kinds}, "
            f"disturbed by {point.disturbed_cores:.2f} cores",
            flush=True,
        )
    if options.json:
        body = {"machine": programs.machine(), "points": [asdict(point) for point in points]}
        options.json.write_text(json.dumps(body, indent=1))


if __name__ == "__main__":
    main()
