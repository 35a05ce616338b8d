"""Score against frames and against seconds: ours and Sample Factory 2.1.1, same task, network and sizes, in one run.

    python benchmarks/learning.py --task=doom_basic --frames=500000 --seeds=1,2 --peer_venv=/path/to/venv

The two train one after the other, taking turns per seed, each with the whole machine. The peer lives in a virtual
environment of its own, which is made and filled on first use when it does not exist. Curves come from both programs'
tensorboard summaries; time counts from the start of the command. Prints, per seed and side, the score over the last
tenth of the frames, frames per second, and the frames and seconds at which the score first reached the task's
threshold; writes everything as JSON with --json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import programs


@dataclass(frozen=True, kw_only=True)
class Task:
    """`flags` go to both programs; `ours` and `peer` only to one. The score is the raw (true) episode return."""

    env: str
    threshold: float
    frames: int
    flags: tuple[str, ...]
    ours: tuple[str, ...] = ()
    peer: tuple[str, ...] = ()
    peer_module: str = "sf_examples.vizdoom.train_vizdoom"
    interval_s: int = 3
    """Between two points of a curve: what is learned in seconds needs them close."""


_DOOM = (
    "--res_w=64", "--res_h=36", "--rollout=32", "--batch_size=512", "--use_rnn=False",
    "--normalize_input=False", "--normalize_returns=False", "--with_vtrace=False", "--learning_rate=0.001",
    "--exploration_loss_coeff=0.001", "--gamma=0.99", "--env_frameskip=4", "--wide_aspect_ratio=False",
    "--nonlinearity=elu",
)  # fmt: skip
"""A small picture and network, and no policy lag on either side: what is compared is what a frame teaches.
GAE, because the peer's summaries fail with V-trace."""
_OUR_DOOM = (
    "--encoder_subtype=convnet_impala", "--hidden_size=128", "--ppo_epochs=2", "--async_rl=False",
    "--num_workers=2", "--num_envs_per_worker=8", "--worker_num_splits=1",
)  # fmt: skip
_PEER_DOOM = (
    "--encoder_conv_architecture=convnet_impala", "--encoder_conv_mlp_layers", "128", "--rnn_size=128",
    "--num_epochs=2", "--num_batches_per_epoch=1", "--max_grad_norm=4.0", "--ppo_clip_ratio=0.1",
    "--async_rl=False", "--num_workers=2", "--num_envs_per_worker=8", "--recurrence=32",
)  # fmt: skip
_HOME = (
    "--res_w=64", "--res_h=36", "--rollout=32", "--recurrence=32", "--batch_size=1024", "--use_rnn=True",
    "--normalize_input=False", "--normalize_returns=False", "--learning_rate=0.0001", "--gamma=0.99",
    "--exploration_loss=symmetric_kl", "--exploration_loss_coeff=0.001", "--env_frameskip=4",
    "--wide_aspect_ratio=False", "--nonlinearity=elu", "--max_grad_norm=4.0", "--ppo_clip_ratio=0.1",
    "--async_rl=True", "--num_workers=2", "--num_envs_per_worker=16", "--worker_num_splits=2",
)  # fmt: skip
"""A reward that is rarely found wants many frames: asynchronous on both sides, ours with V-trace."""
_GYM = (
    "--serial_mode=True", "--async_rl=False", "--num_workers=1", "--num_envs_per_worker=32", "--worker_num_splits=1",
    "--rollout=32", "--recurrence=1", "--use_rnn=False",
    "--batch_size=256", "--normalize_input=True", "--normalize_returns=True", "--learning_rate=0.002",
    "--gamma=0.99", "--exploration_loss_coeff=0.003", "--with_vtrace=False", "--nonlinearity=tanh",
    "--ppo_clip_ratio=0.2", "--max_grad_norm=4.0", "--encoder_mlp_layers", "64", "64",
)  # fmt: skip
"""What our family of small environments does by default, which suits both programs, but with GAE."""


def _doom(env: str, threshold: float, frames: int, *more: str) -> Task:
    flags = (*_DOOM, *more)
    return Task(env=env, threshold=threshold, frames=frames, flags=flags, ours=_OUR_DOOM, peer=_PEER_DOOM)


TASKS = {
    "cartpole": Task(
        env="CartPole-v1",
        threshold=475.0,
        frames=200_000,
        flags=_GYM,
        ours=("--ppo_epochs=4", "--num_batches_per_iteration=4"),
        peer=("--num_epochs=4", "--num_batches_per_epoch=4"),
        peer_module="sf_examples.train_gym_env",
        interval_s=1,
    ),
    "doom_basic": _doom("doom_basic", 75.0, 300_000),
    "doom_defend_the_center": _doom(
        "doom_defend_the_center", 5.0, 2_000_000, "--res_w=128", "--res_h=72", "--learning_rate=0.0005"
    ),
    "doom_health_gathering": _doom("doom_health_gathering", 15.0, 600_000, "--exploration_loss_coeff=0.01"),
    "doom_my_way_home": Task(
        env="doom_my_way_home",
        threshold=0.3,
        frames=15_000_000,
        flags=_HOME,
        ours=("--encoder_subtype=convnet_impala", "--hidden_size=128", "--ppo_epochs=1"),
        peer=(
            "--encoder_conv_architecture=convnet_impala",
            "--encoder_conv_mlp_layers",
            "128",
            "--rnn_size=128",
            "--num_epochs=1",
            "--num_batches_per_epoch=1",
            "--with_vtrace=False",
        ),
        interval_s=15,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """`score`: mean over the last tenth of the frames, None where nothing was reported. `reached_*`: the threshold."""

    side: str
    seed: int
    wall_s: float
    frames: int
    score: float | None
    frames_per_s: float
    reached_frames: int | None
    reached_s: float | None
    curve: list[tuple[int, float, float]]
    """(frames, seconds since the start of the command, score)"""


def train(side: str, task: Task, seed: int, frames: int, peer: Path) -> Outcome:
    common = [f"--env={task.env}", f"--seed={seed}", "--train_dir={folder}", "--experiment=run", "--algo=APPO"]
    common += [f"--experiment_summaries_interval={task.interval_s}"]
    common += [f"--train_for_env_steps={frames}", "--device=cpu", *task.flags]
    if side == "ours":
        command, env = [sys.executable, "-m", "sf_algo.train_appo", *common, *task.ours], None
    else:
        # With torch's own choice of threads its first iteration alone can take minutes where cores are few.
        command, env = [str(peer), "-m", task.peer_module, *common, *task.peer], {"OMP_NUM_THREADS": "1"}
    with programs.started(command, env=env) as running:
        code = code_at_its_end(running)
        wall_s = time.time() - running.started
        if code != 0:
            raise SystemExit(f"{side} ended with {code}:\n" + "\n".join(running.log[-20:]))
        tag = "policy_stats/avg_true_reward" if side == "ours" else "policy_stats/avg_true_objective"
        summaries = running.folder / "run" / ".summary" / "0"
        curve = read_curve(summaries, (tag, "reward/reward"), running.started)
    return outcome(side, seed, wall_s, curve, task.threshold)


def code_at_its_end(running: programs.Running) -> int:
    """A peer whose learner raised waits for it forever: that counts as an end with code 1."""
    read = 0
    while (code := running.process.poll()) is None:
        new = running.log[read:]
        if any("Unhandled exception" in line for line in new):
            return 1
        read += len(new)
        time.sleep(0.2)
    return code


def read_curve(folder: Path, tags: tuple[str, ...], started: float) -> list[tuple[int, float, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    known = events.Tags()["scalars"]
    tag = next(tag for tag in tags if tag in known)
    return [(e.step, e.wall_time - started, e.value) for e in events.Scalars(tag)]


def outcome(side: str, seed: int, wall_s: float, curve: list[tuple[int, float, float]], threshold: float) -> Outcome:
    frames = curve[-1][0] if curve else 0
    last = [score for step, _, score in curve if step >= 0.9 * frames]
    reached = next(((step, seconds) for step, seconds, score in curve if score >= threshold), (None, None))
    span = curve[-1][1] - curve[0][1] if len(curve) > 1 else 0.0
    return Outcome(
        side=side,
        seed=seed,
        wall_s=wall_s,
        frames=frames,
        score=statistics.fmean(last) if last else None,
        frames_per_s=(frames - curve[0][0]) / span if span else 0.0,
        reached_frames=reached[0],
        reached_s=reached[1],
        curve=curve,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=sorted(TASKS), required=True)
    parser.add_argument("--frames", type=int, help="budget of each training (default: the task's)")
    parser.add_argument("--seeds", default="1", help="comma-separated")
    parser.add_argument("--sides", default="ours,peer", help="which programs, in which order")
    parser.add_argument("--ours", default="", help="more flags for ours, e.g. '--async_rl=True --with_vtrace=True'")
    parser.add_argument("--peer", default="", help="more flags for the peer")
    parser.add_argument("--peer_venv", type=Path, default=Path.home() / ".cache/sf_algo/peer_venv")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    task = TASKS[options.task]
    more = {"ours": (*task.ours, *shlex.split(options.ours)), "peer": (*task.peer, *shlex.split(options.peer))}
    task = replace(task, **more)
    frames = options.frames or task.frames
    sides = options.sides.split(",")
    peer = programs.prepare_venv(options.peer_venv, programs.PEER_PACKAGES) if "peer" in sides else Path()
    found: list[Outcome] = []
    print(f"{options.task}: {frames:,} frames, {os.cpu_count()} cores, threshold {task.threshold:g}", flush=True)
    print(f"{'seed':>5} {'side':6} {'score':>8} {'frames/s':>9} {'reached at frames':>18} {'s':>7} {'wall s':>7}")
    for seed in map(int, options.seeds.split(",")):
        for side in sides:
            result = train(side, task, seed, frames, peer)
            found.append(result)
            score = "-" if result.score is None else f"{result.score:.2f}"
            at = "-" if result.reached_frames is None else f"{result.reached_frames:,}"
            after = "-" if result.reached_s is None else f"{result.reached_s:.0f}"
            print(
                f"{seed:5} {side:6} {score:>8} {result.frames_per_s:9,.0f} {at:>18} {after:>7} {result.wall_s:7.0f}",
                flush=True,
            )
            if options.json:
                write_json(options.json, options.task, frames, found)


def write_json(path: Path, task: str, frames: int, found: list[Outcome]) -> None:
    machine = {"platform": platform.platform(), "cores": os.cpu_count(), "date": time.strftime("%Y-%m-%d")}
    body = {"task": task, "frames": frames, **machine, "outcomes": [asdict(o) for o in found]}
    path.write_text(json.dumps(body))


if __name__ == "__main__":
    main()
