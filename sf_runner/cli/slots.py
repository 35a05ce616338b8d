"""From flags and the description's defaults to the devices and cores of a run."""

from __future__ import annotations

import os
from dataclasses import dataclass

from sf_runner.cli.options import RunOptions
from sf_runner.describe.description import RunDefaults
from sf_runner.slots.cores import read_topology
from sf_runner.slots.devices import GpuSnapshot
from sf_runner.slots.probe import GpuProbe
from sf_runner.slots.table import SlotPolicy, SlotSetup


@dataclass(frozen=True, kw_only=True)
class SlotChoice:
    """The slots of this start, and how they were found."""

    setup: SlotSetup
    probe: GpuProbe | None
    snapshot: GpuSnapshot
    max_parallel: int


def choose_slots(options: RunOptions, defaults: RunDefaults) -> SlotChoice:
    """Look at the machine. UsageError naming the flag that cannot be fulfilled."""
    policy = slot_policy(options, defaults)
    probe, snapshot = None, GpuSnapshot()
    if policy.num_gpus != 0 and policy.experiments_per_gpu != -1:
        from sf_runner.slots.nvml import NvmlProbe  # and with it pynvml: not where no GPU is handed out

        probe = GpuProbe(NvmlProbe())
        snapshot = probe.snapshot()
    setup = SlotSetup.create(policy, snapshot, read_topology())
    parallel = options.max_parallel or defaults.max_parallel or setup.default_max_parallel
    return SlotChoice(setup=setup, probe=probe, snapshot=snapshot, max_parallel=parallel)


def slot_policy(options: RunOptions, defaults: RunDefaults) -> SlotPolicy:
    """Flags before the description's defaults before ours."""
    return SlotPolicy(
        num_gpus=_first(options.num_gpus, defaults.num_gpus, -1),
        experiments_per_gpu=_first(options.experiments_per_gpu, defaults.experiments_per_gpu, 1),
        gpus=options.gpus,
        gpu_ids="index" if options.gpu_ids == "index" else "uuid",
        gpu_exclude_busy=options.gpu_exclude_busy,
        gpu_memory_mb=options.gpu_memory_per_experiment,
        cpus_per_experiment=options.cpus_per_experiment,
        environ=dict(os.environ),
    )


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)
