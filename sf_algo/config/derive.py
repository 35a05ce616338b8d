"""Defaults that follow from other flags: each rule changes only values that the user did not choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sf_algo.config.flags import FlagKey, FlagValue
from sf_algo.config.rounds import fills_rounds, nearest_fitting_batch
from sf_algo.gpus import usable_gpus

ENVS_WORTH_BATCHING = 32
"""Environments in flight below which inference batches are too small to use the processor well."""

GPU_CORES = 2
"""Cores that are left to the hub and the learner where a GPU computes; the others step environments."""
GPU_ENVS_IN_FLIGHT = 512
"""Environments that fill a GPU: passes of 256 agents while as many are stepped."""
_GPU_ENVS_PER_WORKER = (16, 32)

Values = dict[FlagKey, Any]
IsFree = Callable[[str, str], bool]


def derive_defaults(values: Values, chosen: Mapping[FlagKey, FlagValue]) -> None:
    """Adapts `values` in place so that flags which the user left alone fit those in `chosen`."""

    def free(section: str, name: str) -> bool:
        return (section, name) not in chosen

    _derive_serial(values, free)
    on_gpu = values["run", "device"] == "gpu" or (values["run", "device"] == "auto" and usable_gpus() > 0)
    # In serial mode there is one process, and in turns there are whole rounds: a GPU changes neither.
    on_gpu = on_gpu and values["sampling", "async_rl"] and not values["sampling", "serial_mode"]
    if on_gpu and free("sampling", "num_workers"):
        values["sampling", "num_workers"] = max(1, values["sampling", "num_workers"] - GPU_CORES)
    _derive_splits(values, free)
    _derive_lengths(values, free)
    _derive_environments(values, free, on_gpu=on_gpu)
    if _synchronous(values) and free("rl", "batch_size"):
        _fit_batch_to_rounds(values)


def _synchronous(values: Values) -> bool:
    """Whether an iteration is made of whole rounds of rollouts (see `validate.check_batch_can_fill`)."""
    alone = values["sampling", "num_policies"] == 1 and values["sampling", "self_play"] == "current"
    return alone and not values["sampling", "async_rl"]


def _derive_serial(values: Values, free: IsFree) -> None:
    """Without worker processes, workers and splits gain nothing; asynchrony only where it is asked for."""
    if free("sampling", "serial_mode") and values["sampling", "serial_mode"]:
        # Whoever asks for workers does not want a family's default of one process.
        values["sampling", "serial_mode"] = free("sampling", "num_workers")
    if values["sampling", "serial_mode"]:
        for name, value in (("async_rl", False), ("num_workers", 1), ("worker_num_splits", 1)):
            if free("sampling", name):
                values["sampling", name] = value


def _derive_splits(values: Values, free: IsFree) -> None:
    """While nothing is learned, cores are free to act for all environments at once, which costs less than acting for
    two groups in turn."""
    if not values["sampling", "async_rl"] and free("sampling", "worker_num_splits"):
        values["sampling", "worker_num_splits"] = 1


def _derive_lengths(values: Values, free: IsFree) -> None:
    rollout = values["rl", "rollout"]
    if free("rl", "recurrence"):
        values["rl", "recurrence"] = rollout if values["model", "use_rnn"] else 1
    if free("rl", "batch_size"):
        values["rl", "batch_size"] = max(1, values["rl", "batch_size"] // rollout) * rollout


def _derive_environments(values: Values, free: IsFree, *, on_gpu: bool) -> None:
    workers = values["sampling", "num_workers"]
    splits = values["sampling", "worker_num_splits"]
    if free("sampling", "num_envs_per_worker"):
        if on_gpu:
            fewest, most = _GPU_ENVS_PER_WORKER
            per_worker = max(fewest, min(most, -(-GPU_ENVS_IN_FLIGHT // workers)))
        else:
            per_worker = max(2, -(-ENVS_WORTH_BATCHING // workers))
        per_worker = -(-per_worker // splits) * splits
        if _synchronous(values) and not free("rl", "batch_size"):
            per_worker = _fit_environments_to_batch(values, per_worker)
        values["sampling", "num_envs_per_worker"] = per_worker
    if free("sampling", "worker_num_splits") and values["sampling", "num_envs_per_worker"] % splits:
        values["sampling", "worker_num_splits"] = 1


def _fit_environments_to_batch(values: Values, most: int) -> int:
    """The largest number of environments per worker up to `most` whose rounds fill the batch; `most` where
    there is none."""
    workers = values["sampling", "num_workers"]
    splits = values["sampling", "worker_num_splits"]
    wanted = values["rl", "batch_size"] * values["rl", "num_batches_per_iteration"] // values["rl", "rollout"]
    fitting = [n for n in range(most, 0, -1) if n % splits == 0 and fills_rounds(wanted, per_round=workers * n)]
    return fitting[0] if fitting else most


def _fit_batch_to_rounds(values: Values) -> None:
    """The batch size nearest to the default that whole rounds (of one agent per environment) fill."""
    trajectories = values["sampling", "num_workers"] * values["sampling", "num_envs_per_worker"]
    rollout, batches = values["rl", "rollout"], values["rl", "num_batches_per_iteration"]
    wanted = values["rl", "batch_size"] // rollout
    fitting = nearest_fitting_batch(wanted, per_round=trajectories, batches=batches)
    values["rl", "batch_size"] = fitting * rollout
