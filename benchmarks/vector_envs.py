"""An environment that steps 64 copies as arrays against the same one stepped copy by copy: CartPole, both of gymnasium.

    python benchmarks/vector_envs.py [--pairs=3] [--seconds=10]

Both as an environment of their user's own, in turns: with the dummy sampler, which only steps, in one worker; and in a
training with a perceptron of 2 x 64, in one process. A figure is the slope of frames over time after a warm-up; "core
us" is the processor time of all processes for one frame. What the trainer itself costs is what a training takes beyond
the dummy sampler.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path

import gymnasium
import programs

COPIES = 64
HERE = Path(__file__).resolve().parent


def make_vector() -> gymnasium.vector.VectorEnv:
    return gymnasium.make_vec("CartPole-v1", num_envs=COPIES, vectorization_mode="vector_entry_point")


def make_single() -> gymnasium.Env:
    return gymnasium.make("CartPole-v1", disable_env_checker=True)


SAMPLE = ["-m", "sf_algo.run_algorithm", "--algo=DUMMY_SAMPLER", "--num_workers=1", "--sample_env_frames=1000000000"]
TRAIN = ["-m", "sf_algo.train_appo", "--algo=APPO", "--experiment=run", "--train_dir={folder}", "--device=cpu"]
TRAIN += [
    "--train_for_seconds=500",
    "--num_workers=1",
    "--serial_mode=True",
    "--worker_num_splits=1",
    "--use_rnn=False",
    "--rollout=32",
]
TRAIN += ["--recurrence=1", "--batch_size=2048", "--encoder_mlp_layers", "64", "64", "--hidden_size=64"]


def command(program: list[str], maker: str) -> list[str]:
    copies = 1 if maker == "make_vector" else COPIES
    flags = [f"--env=vector_envs:{maker}", f"--num_envs_per_worker={copies}", "--seed=1", "--status_interval=0.5"]
    return [sys.executable, *program[:2], *flags, *program[2:]]


def measure(words: list[str], *, warm_up_s: float, seconds: float) -> tuple[float, float]:
    """Frames/s, and us of processor time for one frame."""
    with programs.started(words) as running:
        conditions = running.run_for(warm_up_s=warm_up_s, seconds=seconds)
        fps = running.frames_per_s(warm_up_s)
    return fps, 1e6 * conditions.own_cores / fps


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--warm_up", type=float, default=4.0)
    args = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for _ in range(args.pairs):
        for what, program in (("dummy sampler", SAMPLE), ("training", TRAIN)):
            for maker in ("make_single", "make_vector"):
                figures = measure(command(program, maker), warm_up_s=args.warm_up, seconds=args.seconds)
                found.setdefault((what, maker), []).append(figures)
                print(f"{what:14} {maker:12} {figures[0]:12,.0f} frames/s {figures[1]:8.2f} core us", flush=True)
    print(programs.machine())
    print("| | one by one, frames/s | 64 at once | ratio | core us/frame, one by one | at once |")
    print("| --- | --- | --- | --- | --- | --- |")
    for what in ("dummy sampler", "training"):
        single, vector = (found[what, maker] for maker in ("make_single", "make_vector"))
        slow, fast = (statistics.median(fps for fps, _ in runs) for runs in (single, vector))
        costs = [statistics.median(cost for _, cost in runs) for runs in (single, vector)]
        print(f"| {what} | {slow:,.0f} | {fast:,.0f} | {fast / slow:.2f} | {costs[0]:.2f} | {costs[1]:.2f} |")


if __name__ == "__main__":
    main()
