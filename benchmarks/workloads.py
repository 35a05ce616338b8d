"""What the benchmarks of the trainer run: workloads, and for each program the settings worth trying.

Flags of a workload decide what is computed (network, rollout, batch, epochs), so they are the same for all programs;
a setting only decides where and in which order.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Side = Literal["ours", "peer", "sb3"]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How one program is spread over the machine."""

    name: str
    flags: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One task. Settings: the first of a side is the one that measured best."""

    name: str
    env: str
    flags: tuple[str, ...]
    """Understood by ours and by Sample Factory."""
    ours: tuple[str, ...]
    peer: tuple[str, ...]
    peer_module: str
    settings: Mapping[Side, tuple[Setting, ...]]


def topology(workers: int, envs: int, *extra: str, name: str = "", **env: str) -> Setting:
    flags = (f"--num_workers={workers}", f"--num_envs_per_worker={envs}", *extra)
    return Setting(name=name or f"{workers}x{envs}", flags=flags, env=env)


def serial(envs: int, *extra: str, name: str = "serial", **env: str) -> Setting:
    return topology(1, envs, "--serial_mode=True", "--worker_num_splits=1", *extra, name=f"{name} 1x{envs}", **env)


_PEER_DOOM_BATCH = ("--num_epochs=1", "--num_batches_per_epoch=1", "--max_grad_norm=4.0", "--ppo_clip_ratio=0.1")

DOOM = Workload(
    name="doom_benchmark",
    env="doom_benchmark",
    flags=(
        "--rollout=32",
        "--recurrence=32",
        "--batch_size=1024",
        "--use_rnn=True",
        "--normalize_input=False",
        "--normalize_returns=False",
        # Sample Factory 2.1.1 dies with V-trace as soon as it writes summaries (it reads advantages it has not made).
        "--with_vtrace=False",
        "--env_frameskip=4",
        "--wide_aspect_ratio=False",
        "--nonlinearity=elu",
    ),
    ours=("--ppo_epochs=1", "--num_batches_per_iteration=1"),
    peer=_PEER_DOOM_BATCH,
    peer_module="sf_examples.vizdoom.train_vizdoom",
    settings={
        "ours": (
            topology(2, 32),
            topology(2, 32, "--worker_num_splits=1", name="2x32, 1 split"),
            topology(2, 16),
            topology(2, 16, "--set_workers_cpu_affinity=False", name="2x16 not pinned"),
            topology(
                2,
                16,
                "--set_workers_cpu_affinity=False",
                "--worker_num_splits=1",
                "--learner_main_loop_num_cores=2",
                name="2x16 not pinned, 1 split, 2 threads",
            ),
        ),
        "peer": (
            # With torch's own choice of threads the first iteration alone takes more than a minute on 2 cores.
            topology(2, 16, "--worker_num_splits=2", name="2x16, 1 thread", OMP_NUM_THREADS="1"),
            topology(2, 32, "--worker_num_splits=2", name="2x32, 1 thread", OMP_NUM_THREADS="1"),
            topology(2, 16, "--worker_num_splits=2", name="2x16, passive threads", OMP_WAIT_POLICY="PASSIVE"),
            topology(
                2, 16, "--worker_num_splits=2", "--async_rl=False", name="2x16 synchronous", OMP_WAIT_POLICY="PASSIVE"
            ),
            serial(32, "--async_rl=False"),
        ),
    },
)

CARTPOLE = Workload(
    name="cartpole",
    env="CartPole-v1",
    flags=(
        "--rollout=32",
        "--recurrence=1",
        "--batch_size=1024",
        "--use_rnn=False",
        "--normalize_input=False",
        "--normalize_returns=False",
        "--with_vtrace=False",
        # Without it both programs often collapse to one action: episodes of 9 steps, mostly resets.
        "--reward_scale=0.1",
        "--nonlinearity=elu",
        "--encoder_mlp_layers",
        "512",
        "512",
    ),
    ours=("--ppo_epochs=1", "--num_batches_per_iteration=1", "--hidden_size=512", "--stats_avg=100"),
    peer=("--num_epochs=1", "--num_batches_per_epoch=1"),
    peer_module="sf_examples.train_gym_env",
    settings={
        "ours": (
            serial(64, "--async_rl=True", name="pipelined"),
            serial(128, "--async_rl=True", name="pipelined"),
            serial(32, "--async_rl=True", name="pipelined"),
            serial(32),
        ),
        "peer": (
            serial(32, "--async_rl=True", name="serial, learner beside"),
            serial(64, "--async_rl=True", name="serial, learner beside"),
            serial(32, "--async_rl=False"),
            serial(32, "--async_rl=False", name="serial, 1 thread", OMP_NUM_THREADS="1"),
            topology(2, 16, "--worker_num_splits=2"),
            topology(2, 16, "--worker_num_splits=2", name="2x16, 1 thread", OMP_NUM_THREADS="1"),
        ),
        "sb3": (
            Setting(name="32 envs, 1 thread", flags=("--threads=1",)),
            Setting(name="32 envs, 2 threads", flags=("--threads=2",)),
        ),
    },
)

PONG = Workload(
    name="atari_pong",
    env="atari_pong",
    flags=(
        "--rollout=32",
        "--recurrence=1",
        "--batch_size=1024",
        "--use_rnn=False",
        "--normalize_input=False",
        "--normalize_returns=False",
        "--with_vtrace=False",
        "--env_frameskip=4",
        "--env_framestack=4",
        "--nonlinearity=relu",
    ),
    ours=("--ppo_epochs=1", "--num_batches_per_iteration=1", "--encoder_subtype=convnet_atari", "--hidden_size=512"),
    peer=(
        "--num_epochs=1",
        "--num_batches_per_epoch=1",
        "--encoder_conv_architecture=convnet_atari",
        "--obs_scale=255.0",
        "--obs_subtract_mean=0.0",
    ),
    peer_module="sf_examples.atari.train_atari",
    settings={
        "ours": (serial(32, "--async_rl=True", name="pipelined"), topology(2, 8), topology(2, 16)),
        "peer": (
            topology(2, 16, "--worker_num_splits=2", name="2x16, 1 thread", OMP_NUM_THREADS="1"),
            topology(2, 8, "--worker_num_splits=2", name="2x8, 1 thread", OMP_NUM_THREADS="1"),
            topology(2, 16, "--worker_num_splits=2", name="2x16, passive threads", OMP_WAIT_POLICY="PASSIVE"),
            serial(32, "--async_rl=True", name="serial, learner beside"),
        ),
    },
)

WORKLOADS = {load.name: load for load in (DOOM, CARTPOLE, PONG)}


def command(side: Side, load: Workload, setting: Setting, python: Path, seconds: float) -> list[str]:
    """The command that trains for at most `seconds`; `{folder}` stands for a folder of its own."""
    if side == "sb3":
        script = str(Path(__file__).resolve().parent / "sb3_ppo.py")
        return [str(python), script, f"--env={load.env}", f"--seconds={seconds}", *setting.flags]
    common = [f"--env={load.env}", "--algo=APPO", "--seed=1", "--device=cpu", "--train_dir={folder}"]
    common += ["--experiment=run", f"--train_for_seconds={seconds:g}", *load.flags, *setting.flags]
    if side == "ours":
        return [sys.executable, "-m", "sf_algo.train_appo", *common, "--status_interval=0.5", *load.ours]
    return [str(python), "-m", load.peer_module, *common, *load.peer]
