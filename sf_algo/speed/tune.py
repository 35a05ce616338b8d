"""--tune: tries ways to spread a training over this machine, a few seconds each, and prints the flags of the fastest.

Every candidate is the user's own command with other values for flags that decide where work is done, not what is
learned. It runs as a process of its own that writes nothing (--benchmark=True). Flags that the user typed stay.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TextIO, TypeAlias

from sf_algo.config import Config
from sf_algo.config.derive import GPU_CORES
from sf_algo.config.env_family import understands
from sf_algo.config.flags import ENV_ARGS, ENV_PREFIX, FlagValue
from sf_algo.config.resolve import Invocation
from sf_algo.config.rounds import fills_rounds
from sf_algo.config.store import config_values
from sf_algo.config.values import format_value
from sf_algo.cpus import usable_cpus
from sf_algo.errors import WorkerError
from sf_algo.gpus import usable_gpus
from sf_algo.own.additions import additions_of, is_importable
from sf_algo.summaries.progress import PROGRESS_VARIABLE

Choice: TypeAlias = Mapping[str, FlagValue]
"""Flags of the section `sampling`."""
Measure: TypeAlias = Callable[[Sequence[str], int], "float | None"]
"""(words of a command, frames before it counts) -> frames per second, None where it does not train."""

_TRAINER = ("-m", "sf_algo.train_appo")

TUNED = (
    "serial_mode",
    "async_rl",
    "num_workers",
    "num_envs_per_worker",
    "worker_num_splits",
    "learner_main_loop_num_cores",
)
BUDGET_S = 60.0
"""No candidate is begun after this."""
MEASURE_S = 4.0
START_LIMIT_S = 45.0
_LOOK_S = 0.1
_END_S = 10.0
_ENVS_PER_CORE = (16, 32, 8)
"""Environments of the whole run that are worth a try, for each core, the most promising first."""
_WORTH_MENTIONING = 1.05
"""Less than this is within what repeated measurements differ by."""
_WHAT_IS_LEARNED = ("env", "doom", "dmlab", "model", "rl")
_NOT_OF_A_TRIAL = frozenset({"tune", "profile", "benchmark", "experiment", "train_dir", "experiments_root", "algo"})


def candidates(config: Config, typed: frozenset[str], cores: int) -> list[Choice]:
    """What to try, in the order of promise, the command as it stands first. Typed flags keep their values. Who asks
    for serial mode may want it reproducible, so then a learner beside it is not proposed."""
    fixed = typed | {"async_rl"} if "serial_mode" in typed else typed
    now: dict[str, FlagValue] = {name: getattr(config.sampling, name) for name in TUNED}
    found: list[Choice] = [now]
    on_gpu = config.run.device == "gpu" or (config.run.device == "auto" and usable_gpus() > 0)
    # Where a GPU computes, two cores launch its work and feed it.
    stepping = max(1, cores - GPU_CORES) if on_gpu else cores
    for proposal in _proposals(stepping, serial_first=config.sampling.serial_mode):
        choice = {**now, **{name: value for name, value in proposal.items() if name not in fixed}}
        if choice not in found and _is_possible(config, choice):
            found.append(choice)
    return found


def _proposals(cores: int, *, serial_first: bool) -> list[Choice]:
    """Ways of different kinds first: time may run out."""
    serial: list[Choice] = []
    parallel: list[Choice] = []
    for envs in (cores * each for each in _ENVS_PER_CORE):
        for asynchronous in (True, False):
            alone: Choice = {"serial_mode": True, "num_workers": 1, "worker_num_splits": 1, "num_envs_per_worker": envs}
            serial.append({**alone, "async_rl": asynchronous, "learner_main_loop_num_cores": 0})
        for workers in dict.fromkeys((cores, max(1, cores // 2))):
            for splits, threads in ((1, cores), (2, cores), (1, 0), (2, 0)):
                shape: Choice = {
                    "num_workers": workers,
                    "num_envs_per_worker": max(splits, envs // workers),
                    "worker_num_splits": splits,
                }
                parallel.append(
                    {**shape, "serial_mode": False, "async_rl": True, "learner_main_loop_num_cores": threads}
                )
    first, second = (serial, parallel) if serial_first else (parallel, serial)
    return [*first[:2], *second[:2], *first[2:], *second[2:]]


def _is_possible(config: Config, choice: Choice) -> bool:
    """Whether splits divide the environments and, where sampling and learning take turns, rounds fill the batch."""
    envs, workers = int(str(choice["num_envs_per_worker"])), int(str(choice["num_workers"]))
    if choice["async_rl"]:
        return envs % int(str(choice["worker_num_splits"])) == 0
    trajectories = config.rl.batch_size * config.rl.num_batches_per_iteration // config.rl.rollout
    return fills_rounds(trajectories, per_round=envs * workers)


def as_flags(choice: Choice, instead_of: Choice) -> list[str]:
    """The flags of a choice that differ from another one."""
    return [f"--{name}={format_value(value)}" for name, value in choice.items() if value != instead_of[name]]


def trial_words(invocation: Invocation, choice: Choice) -> list[str]:
    """The command of one trial: all that decides what is learned as it stands, whatever else was typed, and the
    choice."""
    words: list[str] = []
    family = invocation.config.env_family
    for (section, name), value in config_values(invocation.config).items():
        if not understands(family, section):
            continue
        own = section == ENV_ARGS or section in invocation.config.own
        kept = own or section in _WHAT_IS_LEARNED or name in invocation.typed or (section, name) == ("run", "env")
        if kept and name not in choice and name not in _NOT_OF_A_TRIAL:
            items = [format_value(item) for item in value] if isinstance(value, tuple) else [format_value(value)]
            prefix = ENV_PREFIX if section == ENV_ARGS else ""
            words += [f"--{prefix}{name}", *items] if items else []
    return [*words, *(f"--{name}={format_value(value)}" for name, value in choice.items())]


def run_tuning(
    invocation: Invocation,
    *,
    measure: Measure | None = None,
    out: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
    cores: int | None = None,
) -> int:
    """Measures candidates until there are no more or the time is over; prints each and the best flags. Returns the
    exit code. An interrupt ends it early, with what is known.

    Raises:
        WorkerError: the command does not train as it stands.
    """
    out = out or sys.stdout
    measure = measure or partial(measure_command, program=_program(invocation))
    config = invocation.config
    choices = candidates(config, invocation.typed, cores or usable_cpus())
    base, began = choices[0], clock()
    # Until the learner has trained once and the next batch is half full, sampling has the cores to itself.
    settled = config.rl.batch_size * config.rl.num_batches_per_iteration * 3 // 2 * (config.env.env_frameskip or 1)
    ran: list[tuple[float, Choice]] = []
    try:
        for choice in choices:
            if ran and clock() - began > BUDGET_S:
                break
            fps = measure(trial_words(invocation, choice), settled)
            shown = "did not train" if fps is None else f"{fps:,.0f} frames/s"
            print(f"{shown:>18}  {' '.join(as_flags(choice, base)) or 'as it stands'}", file=out, flush=True)
            if fps is not None:
                ran.append((fps, choice))
            elif choice is base:
                raise WorkerError("the command does not train as it stands; start it without --tune to see why")
    except KeyboardInterrupt:
        print("interrupted; so far:", file=out)
    _tell_best(ran, base, out)
    return 0


def _tell_best(ran: Sequence[tuple[float, Choice]], base: Choice, out: TextIO) -> None:
    if not ran:
        print("nothing was measured", file=out)
        return
    best_fps, best = max(ran, key=lambda one: one[0])
    gain = best_fps / ran[0][0]
    if gain < _WORTH_MENTIONING:
        print("nothing was clearly faster than the command as it stands", file=out)
        return
    print(f"{gain:.2f} times as fast as it stands: {' '.join(as_flags(best, base))}", file=out)


def _program(invocation: Invocation) -> Sequence[str]:
    """What python runs for a trial: the program that was started, without its flags, where the trainer's own command
    would not find the environment or its flags."""
    path = invocation.program.path
    if path is None and is_importable(invocation.config.run.env, additions_of(invocation)):
        return _TRAINER
    if path is not None and Path(sys.argv[0]).parent.name == "sf_algo":
        return ("-m", path.partition(":")[0])  # a training of the program's, gone on with by the trainer's command
    return sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1] or _TRAINER


def measure_command(
    words: Sequence[str], settled: int, *, seconds: float = MEASURE_S, program: Sequence[str] = _TRAINER
) -> float | None:
    """Frames per second of a training command after its first `settled` frames; None where it fails. `program`: what
    python runs."""
    with tempfile.TemporaryDirectory(prefix="sf_tune_") as folder:
        progress = Path(folder) / "progress.json"
        fixed = ["--benchmark=True", "--status_interval=0.2", "--decorrelate_experience_max_seconds=1"]
        command = [
            sys.executable,
            *program,
            *words,
            *fixed,
            f"--train_dir={folder}",
            "--experiment=trial",
        ]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, PROGRESS_VARIABLE: str(progress)},
        )
        try:
            return _watch(process, progress, settled, seconds)
        finally:
            _end(process)


def _watch(process: subprocess.Popen[bytes], progress: Path, settled: int, seconds: float) -> float | None:
    points: list[tuple[float, int]] = []
    until = time.monotonic() + START_LIMIT_S
    while time.monotonic() < until and process.poll() is None:
        time.sleep(_LOOK_S)
        at, frames = _read(progress)
        if frames > settled and not points:
            until = time.monotonic() + seconds
        if frames > max(settled, points[-1][1] if points else 0):
            points.append((at, frames))
    return speed(points)


def _read(progress: Path) -> tuple[float, int]:
    """Wall time of the last report and the frames so far; zeros before the first one."""
    with suppress(OSError, ValueError, KeyError):
        document = json.loads(progress.read_text())
        return float(document["time"]), int(document["step"])
    return 0.0, 0


def speed(points: Sequence[tuple[float, int]]) -> float | None:
    """Slope of frames over time; None with fewer than three reports."""
    if len(points) < 3:
        return None
    slope, _ = statistics.linear_regression([t for t, _ in points], [float(n) for _, n in points])
    return slope


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stops it the way a user would; its children end with it in any case."""
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
