"""What one inference sample and one training sample cost, for the sizes of doom_benchmark and CartPole-v1.

    python benchmarks/learner_step.py [--threads=1] [--repeats=5] [--rounds=2] [--only=doom|cartpole]

Every figure is the best of several calls in processes of its own. With one thread the processor time of the
process is measured, else wall time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch.nn import functional

from sf_algo.config import LearnerConfig, ModelConfig
from sf_algo.envs.spec import ActionSpec, Discrete, EnvSpec, ObsSpec
from sf_algo.learner.batch import TrajectoryBatch
from sf_algo.learner.learner import Learner
from sf_algo.model import products
from sf_algo.model.actor import Actor
from sf_algo.model.actor_critic import ActorCritic, make_actor_critic
from sf_algo.model.encoders import ConvEncoder, MlpEncoder
from sf_algo.model.layers import Conv2d
from sf_algo.model.recurrent import RecurrentCore

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
    inference_batches=(8, 16, 32, 64),
    batch_sizes=(1024, 2048),
)
CARTPOLE = Workload(
    name="CartPole-v1",
    spec=EnvSpec(obs={"obs": ObsSpec(shape=(4,), dtype=np.dtype(np.float32))}, actions=ActionSpec((Discrete(2),))),
    model=ModelConfig(encoder_subtype="mlp", hidden_size=512, use_rnn=False),
    obs_scale=1.0,
    inference_batches=(8, 16, 32, 64),
    batch_sizes=(1024, 2048),
)


WORKLOADS = {"doom": DOOM, "cartpole": CARTPOLE}


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


def torch_products(model: ActorCritic) -> None:
    """Matrix products by what torch chooses, in this process."""
    del model
    products.uses_onednn = lambda: False  # type: ignore[assignment]


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
    "torch's products": torch_products,
}
IMAGE_VARIANTS: dict[str, Variant] = {
    "no chunks": chunks(None),
    "chunks of 32": chunks(32),
    "chunks of 64": chunks(64),
    "chunks of 128": chunks(128),
    "chunks of 256": chunks(256),
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


@dataclass(frozen=True)
class Case:
    """One figure: `size` agents acting, or a batch of `size` samples trained on."""

    workload: str
    kind: Literal["inference", "training"]
    size: int
    variant: str

    @property
    def name(self) -> str:
        return f"{self.kind}, {self.size} {'agents' if self.kind == 'inference' else 'samples'}, {self.variant}"


def measure(case: Case, threads: int, repeats: int) -> float:
    """us per sample, the best of all repetitions. Runs in a process of its own: memory that an earlier
    variant left behind would make a later one look better than it is."""
    torch.set_num_threads(threads)
    load = WORKLOADS[case.workload]
    model = make_model(load)
    task = (inference_task if case.kind == "inference" else training_task)(load, model, case.size)
    (VARIANTS | IMAGE_VARIANTS)[case.variant](model)
    calls = max(1, 512 // case.size)
    best = float("inf")
    for round_ in range(repeats + 1):
        began = clock(threads)
        for _ in range(calls):
            task()
        if round_:  # the first one warms up
            best = min(best, (clock(threads) - began) / calls / case.size * 1e6)
    return best


def measure_apart(case: Case, threads: int, repeats: int) -> float:
    """As `measure`, in a new process."""
    question = json.dumps([asdict(case), threads, repeats])
    command = [sys.executable, __file__, "--case", question]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(answer.stdout)


def cases_of(key: str) -> list[Case]:
    load = WORKLOADS[key]
    is_image = load.spec.obs["obs"].is_image
    acting = ("default", "row-major weights", "torch's products", *(("bf16",) if is_image else ()))
    training = VARIANTS | (IMAGE_VARIANTS if is_image else {})
    size = load.batch_sizes[0]
    return [
        *(Case(key, "inference", agents, name) for agents in load.inference_batches for name in acting),
        *(Case(key, "training", size, name) for name in training),
        *(Case(key, "training", size, "default") for size in load.batch_sizes[1:]),
    ]


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5, help="calls in each process")
    parser.add_argument("--rounds", type=int, default=2, help="processes for each figure")
    parser.add_argument("--only", choices=sorted(WORKLOADS))
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        fields, threads, repeats = json.loads(args.case)
        print(measure(Case(**fields), threads, repeats))
        return
    cases = [case for key in WORKLOADS if args.only in (None, key) for case in cases_of(key)]
    best = dict.fromkeys(cases, float("inf"))
    for _ in range(args.rounds):
        for case in cases:
            best[case] = min(best[case], measure_apart(case, args.threads, args.repeats))
    print(f"us per sample, {args.threads} thread(s), torch {torch.__version__}")
    for case, figure in best.items():
        print(f"  {case.workload:9s} {case.name:70s} {figure:8.1f}")
    if args.json:
        figures = {f"{case.workload}: {case.name}": figure for case, figure in best.items()}
        Path(args.json).write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
