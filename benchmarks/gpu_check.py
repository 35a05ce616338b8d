"""Everything that only a GPU can settle, in one command of at most 8 minutes, and one table at its end.

    python benchmarks/gpu_check.py [--minutes=8] [--only=parity,speed] [--device=auto] [--out=FILE]

Without a GPU the same command runs on the CPU; what needs a card is skipped by name. The table goes to docs/gpu_results
with `--out=docs/gpu_results/<card>_<date>.md`. Exit code 1: a check failed.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "benchmarks"))

from learner_step import DOOM, ROLLOUT, Workload, random_obs  # noqa: E402

from sf_algo.acting.device_passes import CudaLane, DevicePasses, PlainLane  # noqa: E402
from sf_algo.buffers.shared import ArraySpec, SharedBlock  # noqa: E402
from sf_algo.config import LearnerConfig, ModelConfig  # noqa: E402
from sf_algo.learner.batch import TrajectoryBatch  # noqa: E402
from sf_algo.learner.learner import Learner  # noqa: E402
from sf_algo.model.actor import Actor  # noqa: E402
from sf_algo.model.actor_critic import ActorCritic, make_actor_critic  # noqa: E402
from sf_algo.model.precision import Precision, use_precision  # noqa: E402
from sf_algo.plain import cloned  # noqa: E402
from sf_algo.processes.cuda import LockedBlocks  # noqa: E402
from sf_runner.slots.mps import mps_runs  # noqa: E402

CPU = torch.device("cpu")
SMALL_B, FEW = 16, 4
RNNS = ("gru", "lstm")


class SkipError(Exception):
    """Why a part is left out."""


class FailedError(Exception):
    """What a part found wrong."""


@dataclass
class Bench:
    """What every part is given."""

    device: torch.device
    deadline: float
    longest_s: float
    """A training."""
    rows: list[tuple[str, str, str]]

    @property
    def left_s(self) -> float:
        return self.deadline - time.monotonic()

    def needs_gpu(self) -> None:
        if self.device.type != "cuda":
            raise SkipError("needs a GPU")

    def tell(self, what: str, figure: str) -> None:
        self.rows.append((what, "", figure))
        print(f"    {what}: {figure}", flush=True)


def expect(right: bool, otherwise: str) -> None:
    if not right:
        raise FailedError(otherwise)


def make_model(
    load: Workload, device: torch.device, precision: Precision = "float32", **changes: object
) -> ActorCritic:
    model = make_actor_critic(replace(load.model, **changes), load.spec, obs_scale=load.obs_scale, seed=0)  # type: ignore[arg-type]
    use_precision(model, precision, device)
    return model.arrange(device)


def small(kind: str) -> Workload:
    """The network of doom_benchmark with a smaller core."""
    return replace(DOOM, model=ModelConfig(encoder_subtype="convnet_simple", hidden_size=128, rnn_type=kind))  # type: ignore[arg-type]


def played_batch(load: Workload, actor_model: ActorCritic, columns: int, seed: int = 0) -> TrajectoryBatch:
    """Trajectories that `actor_model` has acted out on random observations, with resets inside."""
    device = actor_model.device
    batch = TrajectoryBatch.allocate(
        load.spec,
        rollout=ROLLOUT,
        num_trajectories=columns,
        rnn_state_size=actor_model.rnn_state_size,
        pin_memory=torch.cuda.is_available(),
    )
    for name, x in batch.obs.items():
        x.copy_(random_obs(load, (ROLLOUT + 1) * columns)[name].view(x.shape))
    generator = torch.Generator().manual_seed(seed)
    batch.rewards.normal_(generator=generator)
    batch.terminated.bernoulli_(0.05, generator=generator)
    batch.reset_after.copy_(batch.terminated)
    batch.valid.fill_(True)
    actor = Actor(actor_model, seed=1)
    for t in range(ROLLOUT):
        obs = {name: x[t].to(device) for name, x in batch.obs.items()}
        acted = actor.step(obs, batch.rnn_states[t].to(device))
        batch.actions[t], batch.log_probs[t] = acted.actions.cpu(), acted.log_probs.cpu()
        batch.values[t] = acted.values.cpu()
        batch.rnn_states[t + 1] = acted.rnn_states.cpu() * (~batch.reset_after[t]).float().unsqueeze(1)
    return batch


def make_learner(load: Workload, model: ActorCritic, batch_size: int, device: torch.device) -> Learner:
    cfg = LearnerConfig(rollout=ROLLOUT, recurrence=ROLLOUT, batch_size=batch_size)
    return Learner(0, cfg, model, device=device, max_policy_lag=1000, seed=0)


def difference(left: Tensor, right: Tensor) -> float:
    """Largest, relative to the largest number."""
    left, right = left.detach().cpu().float(), right.detach().cpu().float()
    return float((left - right).abs().max() / left.abs().max().clamp(min=1e-3))


def parity(bench: Bench) -> None:
    """Actions, values, losses and weights: this device against the CPU."""
    bench.needs_gpu()
    for kind in RNNS:
        load = small(kind)
        here, there = make_model(load, CPU), make_model(load, bench.device)
        obs, states = random_obs(load, 64), torch.randn(64, here.rnn_state_size)
        with torch.inference_mode():
            mine = here.act(obs, states)
            its = there.act({n: x.to(bench.device) for n, x in obs.items()}, states.to(bench.device))
        worst = max(difference(a, b) for a, b in zip(mine, its, strict=True))
        bench.tell(f"act, {kind}", f"differs by {worst:.1e}")
        expect(worst < 1e-3, f"act differs by {worst:.1e}")
        for resets in (True, False):
            reset_after = torch.rand(ROLLOUT, SMALL_B) < (0.1 if resets else 0.0)
            rows = {n: x.view(ROLLOUT, SMALL_B, *x.shape[1:]) for n, x in random_obs(load, ROLLOUT * SMALL_B).items()}
            start = torch.randn(SMALL_B, here.rnn_state_size)
            mine2 = here.evaluate_sequence(rows, start, reset_after)
            on_device = {n: x.to(bench.device) for n, x in rows.items()}
            its2 = there.evaluate_sequence(on_device, start.to(bench.device), reset_after)
            worst = max(difference(a, b) for a, b in zip(mine2, its2, strict=True))
            bench.tell(f"sequences, {kind}, {'with' if resets else 'without'} resets", f"differ by {worst:.1e}")
            expect(worst < 1e-3, f"sequences differ by {worst:.1e}")
        batch = played_batch(load, here, SMALL_B)
        one = make_learner(load, here, ROLLOUT * SMALL_B, CPU).train(batch)
        other = make_learner(load, there, ROLLOUT * SMALL_B, bench.device).train(batch)
        losses = ("loss", "policy_loss", "value_loss", "grad_norm")
        worst = max(abs(one.summaries[n] - other.summaries[n]) / max(abs(one.summaries[n]), 1e-2) for n in losses)
        weights = max(difference(x, there.state_dict()[n]) for n, x in here.state_dict().items() if x.numel() > 1)
        bench.tell(f"one step, {kind}", f"losses differ by {worst:.1e}, weights by {weights:.1e}")
        expect(worst < 1e-2 and weights < 1e-2, "the step differs")


def no_lag(bench: Bench) -> None:
    """Acting and learning agree where nothing has been learned in between."""
    for precision in ("float32", "tf32", "bf16") if bench.device.type == "cuda" else ("float32",):
        for kind in RNNS:
            load = small(kind)
            model = make_model(load, bench.device, precision)  # type: ignore[arg-type]
            batch = played_batch(load, model, SMALL_B)
            found = make_learner(load, model, ROLLOUT * SMALL_B, bench.device).train(batch).summaries
            kl = found["kl_divergence"]
            # The divergence is their square: ratios tell what rounding to 10 bits would do.
            away = max(abs(found["ratio_max"] - 1.0), abs(found["ratio_min"] - 1.0))
            bench.tell(f"KL at no lag, {kind}, {precision}", f"{kl:.1e}, ratios up to {away:.1e} from 1")
            right = abs(kl) < 1e-6 and away < 5e-5
            expect(precision != "float32" or right, f"KL {kl:.1e}, ratios {away:.1e} from 1 in float32")
    use_precision(make_model(small("gru"), bench.device), "float32", bench.device)


def resume(bench: Bench) -> None:
    """A checkpoint of one device goes on on the other."""
    bench.needs_gpu()
    load = small("gru")
    batch = played_batch(load, make_model(load, CPU), SMALL_B)
    for first, second in ((CPU, bench.device), (bench.device, CPU)):
        learner = make_learner(load, make_model(load, first), ROLLOUT * SMALL_B, first)
        learner.train(batch)
        saved, drawn = cloned(learner.state_dict()), Actor(learner.model, seed=1).generator_state()
        other = make_learner(load, make_model(load, second), ROLLOUT * SMALL_B, second)
        other.load_state_dict(saved)
        Actor(other.model, seed=2).set_generator_state(drawn)
        learner.train(batch)
        other.train(batch)
        worst = max(
            difference(x, other.model.state_dict()[n]) for n, x in learner.model.state_dict().items() if x.numel() > 1
        )
        bench.tell(f"{first.type} to {second.type}", f"weights differ by {worst:.1e} after one more step")
        expect(worst < 1e-2, f"weights differ by {worst:.1e}")


def graphs(bench: Bench) -> None:
    """Recorded passes compute what plain ones do."""
    bench.needs_gpu()
    for kind in RNNS:
        load = small(kind)
        for recorded in (False, True):
            us = pass_us(bench, make_model(load, bench.device), load, 256, recorded)
            bench.tell(f"256 agents, {kind}, {'recorded' if recorded else 'plain'}", f"{us:,.0f} us")


def locked(bench: Bench) -> None:
    """Shared memory is locked and released; a refusal does not hit the next kernel."""
    bench.needs_gpu()
    spec = ArraySpec(name="x", shape=(256 << 20,), dtype=np.dtype(np.uint8))
    block = SharedBlock.create("sf_algo_check", [spec])
    blocks, others = LockedBlocks(bench.device), LockedBlocks(bench.device)
    x, there = torch.from_numpy(block.arrays["x"]), torch.zeros(spec.nbytes, dtype=torch.uint8, device=bench.device)
    try:
        slow = spec.nbytes / seconds_of(lambda: there.copy_(x, non_blocking=True), bench.device) / 1e9
        expect(blocks.lock([block]) and x[1000:].is_pinned(), "shared memory cannot be locked: see the warning above")
        fast = spec.nbytes / seconds_of(lambda: there.copy_(x, non_blocking=True), bench.device) / 1e9
        bench.tell("upload from shared memory", f"{slow:.1f} GB/s, locked {fast:.1f} GB/s")
        expect(not others.lock([block]), "the same memory was locked twice")
        there.add_(1)  # would raise the error of that call
        blocks.release()
        expect(not x.is_pinned(), "released memory is still locked")
        expect(blocks.lock([block]), "released memory cannot be locked again")
    finally:
        blocks.release()
        block.close_fd()


def upload_all(learner: Learner, batches: list[TrajectoryBatch]) -> None:
    for batch in batches:
        learner.upload(batch)


def ahead(bench: Bench) -> None:
    """Uploading the next batch while the current one trains changes no weight."""
    load = small("gru")
    batches = [played_batch(load, make_model(load, CPU), FEW, seed=seed) for seed in range(3)]
    weights = []
    for early in (False, True):
        learner = make_learner(load, make_model(load, bench.device), ROLLOUT * FEW, bench.device)
        for index, batch in enumerate(batches):
            following = batches[index + 1 : index + 2] if early else []
            learner.train(batch, meanwhile=partial(upload_all, learner, following))
        weights.append(cloned(learner.model.state_dict()))
    worst = max(difference(x, weights[1][n]) for n, x in weights[0].items() if x.numel() > 1)
    bench.tell("batches uploaded ahead", f"weights differ by {worst:.1e} after {len(batches)} steps")
    expect(worst < 1e-4, f"weights differ by {worst:.1e}")


def pass_us(bench: Bench, model: ActorCritic, load: Workload, agents: int, recorded: bool) -> float:
    """Time of one pass of `agents`, uploads and downloads included; the median of 20."""
    actor = Actor(model, seed=0)
    pinned = bench.device.type == "cuda"
    obs = {n: (x.pin_memory() if pinned else x) for n, x in random_obs(load, agents).items()}
    states = torch.zeros(agents, model.rnn_state_size, pin_memory=pinned)
    lane = CudaLane(bench.device, actor.generator, graphs=recorded) if pinned else PlainLane()
    width = load.spec.actions.width
    passes = DevicePasses(actor, obs, states, width=width, device=bench.device, lane=lane)
    times = []
    for _ in range(25):
        began = time.perf_counter()
        passes.begin(agents)()
        times.append(time.perf_counter() - began)
    if recorded:
        expect(passes.num_recorded > 0, "no pass could be recorded: see the warning above")
    return 1e6 * statistics.median(times[5:])


def speed(bench: Bench) -> None:
    """Products, passes and learner steps of doom_benchmark's network, by precision."""
    gpu = bench.device.type == "cuda"
    for precision in ("float32", "tf32", "bf16") if gpu else ("float32",):
        model = make_model(DOOM, bench.device, precision)  # type: ignore[arg-type]
        x = torch.randn(4096, 4096, device=bench.device) if gpu else torch.randn(1024, 1024)
        rate = 2 * len(x) ** 3 / seconds_of(lambda x=x: x @ x, bench.device) / 1e12
        bench.tell(f"products, {precision}", f"{rate:.2f} TFLOP/s")
        for agents in (64, 256, 1024) if gpu else (64,):
            us = pass_us(bench, model, DOOM, agents, False)
            bench.tell(f"pass of {agents} agents, {precision}", f"{us:,.0f} us, {us / agents:.1f} us per agent")
        for size in (1024, 2048, 4096) if gpu else (1024,):
            if bench.left_s < 60:
                return
            batch = TrajectoryBatch.allocate(
                DOOM.spec, rollout=ROLLOUT, num_trajectories=size // ROLLOUT, rnn_state_size=model.rnn_state_size,
                pin_memory=gpu,
            )  # fmt: skip
            batch.valid.fill_(True)
            batch.log_probs.fill_(-1.0)
            learner = make_learner(DOOM, copy.deepcopy(model), size, bench.device)
            took = seconds_of(lambda learner=learner, batch=batch: learner.train(batch), bench.device, calls=5)
            bench.tell(
                f"learner step of {size} samples, {precision}",
                f"{1e3 * took:.1f} ms, {1e6 * took / size:.1f} us per sample",
            )
    use_precision(make_model(small("gru"), bench.device), "float32", bench.device)


def seconds_of(work: Callable[[], object], device: torch.device, calls: int = 10) -> float:
    """The median time of a call."""
    times = []
    for _ in range(calls + 2):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times[2:])


STALL = """
import os, signal, sys
from sf_algo.learning import remote_learner
from sf_algo.learning.remote_learners import RemoteLearners
remote_learner.STALL_TIMEOUT_S = 5.0
ready = RemoteLearners.train_ready
def stop(self):
    if self._learners[0].steps_under_way: os.kill(self.pids[0], signal.SIGSTOP)
    ready(self)
RemoteLearners.train_ready = stop
from sf_algo.train_appo import main
sys.exit(main())
"""
BREAK = """
import sys, torch
from sf_algo.learner.learner import Learner
calls, train = [0], Learner.train
def broken(self, batch, **more):
    calls[0] += 1
    if calls[0] > 2:
        torch.zeros(4, device=self.model.device)[torch.tensor([9], device=self.model.device)].sum().item()
    return train(self, batch, **more)
Learner.train = broken
from sf_algo.train_appo import main
sys.exit(main())
"""
CARTPOLE = ("--env=CartPole-v1", "--experiment=check", "--train_for_seconds=60", "--num_workers=2")


def stall(bench: Bench) -> None:
    """A learner that stands still ends the training with a message."""
    text, code = run_trainer(bench, ["-c", STALL, *CARTPOLE], limit_s=90)
    expect(code != 0 and "has not finished an iteration" in text, f"exit code {code}: {last_line(text)}")
    bench.tell("a stopped learner", "told, and the training ended")


def cuda_error(bench: Bench) -> None:
    """An error on the device ends the training with that error, not with one of saving."""
    bench.needs_gpu()
    for flags in ((), ("--serial_mode=True", "--async_rl=False", "--num_workers=1")):
        words = [word for word in CARTPOLE if not (flags and word.startswith("--num_workers"))]
        text, code = run_trainer(bench, ["-c", BREAK, *words, "--device=gpu", *flags], limit_s=90)
        expect(code != 0 and "device-side assert" in text, f"exit code {code}: {last_line(text)}")
    bench.tell("an index out of bounds on the device", "told first, beside and in turn with sampling")


DESCRIPTION = """
from sf_runner.run_description import Experiment, ParamGrid, RunDescription
grid = ParamGrid([("seed", [1, 2])])
command = "{python} -m sf_algo.train_appo --env=CartPole-v1 --train_for_env_steps=60000 --num_workers=2 --device=gpu"
experiment = Experiment("cart", command, grid.generate_params(randomize=False))
RUN_DESCRIPTION = RunDescription("gpu_check", experiments=[experiment])
"""


def side_by_side(bench: Bench) -> None:
    """Two experiments on one GPU, placed by the runner with what the driver says."""
    bench.needs_gpu()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "gpu_check_run.py").write_text(DESCRIPTION.replace("{python}", sys.executable))
        command = ["-m", "sf_runner.run", "--run=gpu_check_run", f"--train_dir={folder}/train", "--num_gpus=1"]
        more = ["--experiments_per_gpu=2", "--ui=plain"]
        text, code = run_trainer(bench, [*command, *more], limit_s=120, path=folder, own_folder=False)
        expect(code == 0, f"exit code {code}: {last_line(text)}")
    bench.tell("two experiments on one GPU", "both finished")


START_S = 150.0
"""Engines, libraries and the first iteration have this long on a machine that is busy with other work."""


def frames(bench: Bench, env: str, flags: list[str]) -> None:
    """What a training that was stopped says of itself counts, too."""
    seconds = max(20.0, min(bench.longest_s, bench.left_s / 3))
    words = ["-m", "sf_algo.train_appo", f"--env={env}", "--benchmark=True", "--profile=True", *flags]
    text, code = run_trainer(bench, [*words, f"--train_for_seconds={seconds:.0f}"], limit_s=seconds + START_S)
    found = re.search(r"in ([\d.]+) s, ([\d,]+) frames/s on", text)
    if code not in (0, STOPPED) or not found:
        print("\n".join(text.splitlines()[-12:]), flush=True)
    if code not in (0, STOPPED):
        raise SkipError(last_line(text)) if "install" in text or "No module" in text else FailedError(last_line(text))
    expect(found is not None, f"{last_line(text)}")
    assert found is not None
    bench.tell(f"{env} {' '.join(flags)}".strip(), f"{found[2]} frames/s in {float(found[1]):.0f} s")
    print(text[text.find("where the time of a frame went") :].rstrip(), flush=True)


COMMON = ["--rollout=32", "--batch_size=2048", "--with_vtrace=False"]


def doom(bench: Bench) -> None:
    """doom_benchmark; >= 155,000 frames/s are wanted of an H200 with 16 cores."""
    frames(bench, "doom_benchmark", [*COMMON, "--recurrence=32"])


def pong(bench: Bench) -> None:
    """Pong; >= 100,000 frames/s are wanted there."""
    frames(bench, "atari_pong", COMMON)


def dummy(bench: Bench) -> None:
    """Engines alone; a training should reach 70 % of it."""
    words = ["-m", "sf_algo.run_algorithm", "--algo=DUMMY_SAMPLER", "--env=doom_benchmark", "--timeout_seconds=20"]
    text, code = run_trainer(bench, [*words, "--num_envs_per_worker=16"], limit_s=20 + START_S)
    found = re.findall(r"([\d,.]+) frames/s", text)
    expect(code == 0 and bool(found), last_line(text))
    bench.tell("doom_benchmark, random actions", f"{found[-1]} frames/s")


PARTS: dict[str, Callable[[Bench], None]] = {
    "parity": parity,
    "no_lag": no_lag,
    "resume": resume,
    "graphs": graphs,
    "locked": locked,
    "ahead": ahead,
    "stall": stall,
    "cuda_error": cuda_error,
    "side_by_side": side_by_side,
    "speed": speed,
    "doom": doom,
    "pong": pong,
    "dummy": dummy,
}


STOPPED = 124
"""Exit code for what had to be stopped, as that of `timeout`."""


def run_trainer(
    bench: Bench, words: list[str], *, limit_s: float, path: str = "", own_folder: bool = True
) -> tuple[str, int]:
    """Output and exit code of python with these words."""
    with tempfile.TemporaryDirectory() as folder:
        more = [f"--train_dir={folder}", f"--device={'gpu' if bench.device.type == 'cuda' else 'cpu'}"]
        given = {word.partition("=")[0] for word in words}
        command = [sys.executable, *words, *(w for w in more if own_folder and w.partition("=")[0] not in given)]
        paths = os.pathsep.join(filter(None, [str(ROOT), path, os.environ.get("PYTHONPATH", "")]))
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder,
            env={**os.environ, "PYTHONPATH": paths}, start_new_session=True,
        )  # fmt: skip
        began = time.monotonic()
        try:
            text, _ = process.communicate(timeout=min(limit_s, max(5.0, bench.left_s)))
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                text, _ = process.communicate(timeout=15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                text, _ = process.communicate()
            return f"{text}\nstopped after {time.monotonic() - began:.0f} s", STOPPED
    return text, process.returncode


def last_line(text: str) -> str:
    """The one that says what went wrong, if any does."""
    lines = [line for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "rror" in line or "no profile" in line]
    return (telling or lines or ["no output"])[-1]


@contextmanager
def outcome_of(bench: Bench, name: str) -> Iterator[None]:
    place, began = len(bench.rows), time.monotonic()
    outcome = "ok"
    try:
        if bench.left_s < 5:
            raise SkipError("no time left")
        yield
    except SkipError as why:
        outcome = f"skipped: {why}"
    except FailedError as why:
        outcome = f"FAILED: {why}"
    except Exception as error:
        outcome = f"FAILED: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
    bench.rows.insert(place, (name, outcome, f"{time.monotonic() - began:.0f} s"))
    print(f"{name}: {outcome}", flush=True)


def machine(device: torch.device) -> str:
    card = "no GPU"
    if device.type == "cuda":
        mps = "with" if mps_runs(os.environ) else "without"
        card = f"{torch.cuda.get_device_name(device)} {mps} MPS, CUDA {torch.version.cuda}"
    return (
        f"{card}, {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, torch "
        f"{torch.__version__}, {time.strftime('%-d %B %Y')}"
    )


def table(bench: Bench) -> str:
    lines = [machine(bench.device), "", "| check | outcome | figure |", "| --- | --- | --- |"]
    for row in bench.rows:
        what, outcome, figure = (cell.replace("|", "/") for cell in row)
        lines.append(f"| {what} | {outcome} | {figure} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--device", choices=["auto", "cpu"], default="auto")
    parser.add_argument("--out", type=Path, help="also write the table to this file, and the rows beside it as JSON")
    args = parser.parse_args()
    wanted = args.only.split(",")
    if unknown := [name for name in wanted if name not in PARTS]:
        parser.error(f"--only={args.only}: there is no {unknown[0]}; the parts are {', '.join(PARTS)}")
    gpu = args.device == "auto" and torch.cuda.is_available()
    bench = Bench(torch.device("cuda", 0) if gpu else CPU, time.monotonic() + 60 * args.minutes, 7.5 * args.minutes, [])
    torch.set_num_threads(max(1, torch.get_num_threads() if not gpu else 1))
    for name in wanted:
        print(f"{name} ...", flush=True)
        with outcome_of(bench, name):
            PARTS[name](bench)
    print(f"\n{table(bench)}", flush=True)
    if args.out:
        args.out.write_text(table(bench), encoding="utf-8")
        args.out.with_suffix(".json").write_text(json.dumps(bench.rows, indent=1), encoding="utf-8")
    return 1 if any(outcome.startswith("FAILED") for _, outcome, _ in bench.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
