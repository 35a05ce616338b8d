"""What one inference sample and one training sample cost, for the sizes of doom_benchmark and CartPole-v1.

    python benchmarks/learner_step.py [--threads=1] [--repeats=3] [--only=doom|cartpole]

Variants are measured in turn, again and again, so that a machine whose speed drifts treats all of them alike;
the best of all rounds is printed. With one thread the processor time of this process is measured, else wall
time.

Results, Intel Xeon (AVX-512, 2 cores), torch 2.13, one thread, us per sample; other work went on beside:
see `docs/performance.md`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from sf_algo.config import LearnerConfig, ModelConfig
from sf_algo.envs.spec import ActionSpec, Discrete, EnvSpec, ObsSpec
from sf_algo.learner.batch import TrajectoryBatch
from sf_algo.learner.learner import Learner
from sf_algo.model.actor import Actor
from sf_algo.model.actor_critic import ActorCritic, make_actor_critic
from sf_algo.model.cores import RecurrentCore
from sf_algo.model.encoders import ConvEncoder, MlpEncoder
from sf_algo.model.layers import Conv2d

ROLLOUT = 32
Task = Callable[[], None]
Variant = Callable[[ActorCritic], None]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Sizes of one task."""

    name: str
    spec: EnvSpec
    model: ModelConfig
    obs_scale: float
    inference_batches: tuple[int, ...]
    batch_sizes: tuple[int, ...]


DOOM = Workload(
    name="doom_benchmark",
    spec=EnvSpec(
        obs={"obs": ObsSpec(shape=(3, 72, 128), dtype=np.dtype(np.uint8))}, actions=ActionSpec((Discrete(9),))
    ),
    model=ModelConfig(encoder_subtype="convnet_simple", hidden_size=512),
    obs_scale=255.0,
    inference_batches=(8, 16, 32),
    batch_sizes=(1024, 2048),
)
CARTPOLE = Workload(
    name="CartPole-v1",
    spec=EnvSpec(obs={"obs": ObsSpec(shape=(4,), dtype=np.dtype(np.float32))}, actions=ActionSpec((Discrete(2),))),
    model=ModelConfig(encoder_subtype="mlp", hidden_size=512, use_rnn=False),
    obs_scale=1.0,
    inference_batches=(8, 16, 32),
    batch_sizes=(1024, 2048),
)


def make_model(load: Workload) -> ActorCritic:
    return make_actor_critic(load.model, load.spec, obs_scale=load.obs_scale, seed=0)


def row_major(model: ActorCritic) -> None:
    """As torch lays out weights by itself."""
    for parameter in model.parameters():
        parameter.data = parameter.data.contiguous()


def unfolded(model: ActorCritic) -> None:
    """The first convolution as it is written."""
    for layer in model.modules():
        if isinstance(layer, Conv2d):
            layer._can_fold = lambda x: False  # type: ignore[method-assign]


def unfolded_channels_last(model: ActorCritic) -> None:
    unfolded(model)
    for layer in model.modules():
        if isinstance(layer, Conv2d):
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)


def torch_elu(model: ActorCritic) -> None:
    for layer in model.modules():
        if isinstance(layer, (MlpEncoder, ConvEncoder)):
            layer._activation = functional.elu_


def packed(model: ActorCritic) -> None:
    """torch's own recurrent layer over the pieces between resets."""
    for core in model.modules():
        if isinstance(core, RecurrentCore):
            core.sequence = core.packed_sequence  # type: ignore[method-assign]


def chunks(rows: int | None) -> Variant:
    def change(model: ActorCritic) -> None:
        model.chunk_rows = rows

    return change


def bf16(model: ActorCritic) -> None:
    model.use_bf16(True)


def plain(model: ActorCritic) -> None:
    """What torch does by itself."""
    for change in (row_major, unfolded, torch_elu, packed, chunks(None)):
        change(model)


VARIANTS: dict[str, Variant] = {
    "default": lambda model: None,
    "row-major weights": row_major,
    "torch's elu": torch_elu,
    "no chunks": chunks(None),
    "chunks of 32": chunks(32),
    "chunks of 64": chunks(64),
    "chunks of 256": chunks(256),
}
IMAGE_VARIANTS: dict[str, Variant] = {
    "pixels not folded": unfolded,
    "pixels not folded, channels_last": unfolded_channels_last,
    "packed sequences": packed,
    "no chunks, not folded, torch's elu, packed": plain,
    "bf16": bf16,
}


def inference_task(load: Workload, model: ActorCritic, agents: int) -> Task:
    actor = Actor(model, seed=0)
    obs = random_obs(load, agents)
    states = torch.zeros(agents, model.rnn_state_size)
    return lambda: void(actor.step(obs, states))


def training_task(load: Workload, model: ActorCritic, batch_size: int) -> Task:
    B = batch_size // ROLLOUT
    cfg = LearnerConfig(rollout=ROLLOUT, recurrence=ROLLOUT if load.model.use_rnn else 1, batch_size=batch_size)
    learner = Learner(0, cfg, model, device=torch.device("cpu"), max_policy_lag=1000, seed=0)
    batch = TrajectoryBatch.allocate(
        load.spec, rollout=ROLLOUT, num_trajectories=B, rnn_state_size=model.rnn_state_size
    )
    for name, x in batch.obs.items():
        x.copy_(random_obs(load, (ROLLOUT + 1) * B)[name].view(x.shape))
    generator = torch.Generator().manual_seed(0)
    batch.rewards.normal_(generator=generator)
    batch.log_probs.fill_(-np.log(load.spec.actions.num_choices))
    batch.terminated.bernoulli_(0.01, generator=generator)
    batch.reset_after.copy_(batch.terminated)
    batch.valid.fill_(True)
    return lambda: void(learner.train(batch))


def random_obs(load: Workload, rows: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    obs = {}
    for name, spec in load.spec.obs.items():
        shape = (rows, *spec.shape)
        if spec.is_image:
            obs[name] = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        else:
            obs[name] = torch.randn(shape, generator=generator)
    return obs


def void(_: object) -> None:
    """Forget the result."""


def clock(threads: int) -> float:
    return time.process_time() if threads == 1 else time.perf_counter()


def measure(tasks: dict[str, tuple[Task, int]], threads: int, repeats: int) -> dict[str, float]:
    """us per sample of every task (with its samples per call), the best of all rounds."""
    best = dict.fromkeys(tasks, float("inf"))
    for round_ in range(repeats + 1):
        for name, (task, samples) in tasks.items():
            calls = max(1, 512 // samples)
            began = clock(threads)
            for _ in range(calls):
                task()
            spent = (clock(threads) - began) / calls / samples * 1e6
            if round_:  # the first one warms up
                best[name] = min(best[name], spent)
    return best


def tasks_of(load: Workload) -> dict[str, tuple[Task, int]]:
    tasks: dict[str, tuple[Task, int]] = {}
    is_image = load.spec.obs["obs"].is_image
    for agents in load.inference_batches:
        for name in ("default", "row-major weights", *(("bf16",) if is_image else ())):
            model = make_model(load)
            task = inference_task(load, model, agents)
            (VARIANTS | IMAGE_VARIANTS)[name](model)
            tasks[f"inference, {agents} agents, {name}"] = (task, agents)
    size = load.batch_sizes[0]
    for name, change in (VARIANTS | (IMAGE_VARIANTS if is_image else {})).items():
        model = make_model(load)
        task = training_task(load, model, size)
        change(model)
        tasks[f"training, batch {size}, {name}"] = (task, size)
    for size in load.batch_sizes[1:]:
        tasks[f"training, batch {size}, default"] = (training_task(load, make_model(load), size), size)
    return tasks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=("doom", "cartpole"))
    parser.add_argument("--json", help="also write the figures to this file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    figures: dict[str, dict[str, float]] = {}
    for key, load in (("doom", DOOM), ("cartpole", CARTPOLE)):
        if args.only in (None, key):
            figures[load.name] = measure(tasks_of(load), args.threads, args.repeats)
            print(f"{load.name}, {args.threads} thread(s), us per sample")
            for name, value in figures[load.name].items():
                print(f"  {name:55s} {value:8.1f}")
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
