"""Defaults that follow from other flags: each rule changes only values that the user did not choose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sf_algo.config.flags import FlagKey, FlagValue

ENVS_WORTH_BATCHING = 32
"""Environments in flight below which inference batches are too small to use the processor well."""

Values = dict[FlagKey, Any]


def derive_defaults(values: Values, chosen: Mapping[FlagKey, FlagValue]) -> None:
    """Adapts `values` in place so that flags which the user left alone fit those in `chosen`."""

    def free(section: str, name: str) -> bool:
        return (section, name) not in chosen

    if free("sampling", "serial_mode") and values["sampling", "serial_mode"]:
        # Whoever asks for workers or asynchrony does not want a family's default of one process.
        asked = values["sampling", "async_rl"] and not free("sampling", "async_rl")
        values["sampling", "serial_mode"] = not asked and free("sampling", "num_workers")
    if values["sampling", "serial_mode"]:
        _derive_serial(values, free)
    if free("sampling", "num_envs_per_worker"):
        per_worker = max(2, -(-ENVS_WORTH_BATCHING // max(1, values["sampling", "num_workers"])))
        splits = max(1, values["sampling", "worker_num_splits"])
        values["sampling", "num_envs_per_worker"] = -(-per_worker // splits) * splits
    if free("sampling", "worker_num_splits"):
        envs = values["sampling", "num_envs_per_worker"]
        if envs % values["sampling", "worker_num_splits"]:
            values["sampling", "worker_num_splits"] = 1
    _derive_learner(values, free)


def _derive_serial(values: Values, free: Any) -> None:
    """In one process nothing runs in parallel: neither several workers nor splits nor asynchrony gain
    anything."""
    for name, value in (("async_rl", False), ("num_workers", 1), ("worker_num_splits", 1)):
        if free("sampling", name):
            values["sampling", name] = value


def _derive_learner(values: Values, free: Any) -> None:
    rollout = values["rl", "rollout"]
    if free("rl", "recurrence"):
        values["rl", "recurrence"] = rollout if values["model", "use_rnn"] else 1
    if free("rl", "batch_size") and rollout >= 1:
        values["rl", "batch_size"] = max(1, values["rl", "batch_size"] // rollout) * rollout
