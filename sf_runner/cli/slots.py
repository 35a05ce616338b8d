"""From flags and the description's defaults to the devices and cores of a run."""

from __future__ import annotations

import os
from dataclasses import dataclass

from sf_runner.basics.errors import NotHereError
from sf_runner.cli.options import RunOptions
from sf_runner.describe.description import RunDefaults
from sf_runner.slots.cores import read_topology
from sf_runner.slots.devices import GpuSnapshot
from sf_runner.slots.mps import mps_runs
from sf_runner.slots.probe import GpuProbe
from sf_runner.slots.table import SlotSetup
from sf_runner.slots.types import SlotPolicy


@dataclass(frozen=True, kw_only=True)
class SlotChoice:
    """The slots of this start, and how they were found."""

    setup: SlotSetup
    probe: GpuProbe | None
    snapshot: GpuSnapshot
    max_parallel: int
    refusal: str = ""
    """Of a dry run: why a start on this machine would be refused. What there is elsewhere is not known."""


def choose_slots(options: RunOptions, defaults: RunDefaults) -> SlotChoice:
    """Look at the machine. UsageError naming what cannot be fulfilled and where it was said; a dry run goes on where
    another machine could fulfil it."""
    policy = slot_policy(options, defaults)
    probe, snapshot = None, GpuSnapshot()
    if policy.num_gpus != 0 and policy.experiments_per_gpu != -1:
        from sf_runner.slots.nvml import NvmlProbe  # and with it pynvml: not where no GPU is handed out

        probe = GpuProbe(NvmlProbe())
        snapshot = probe.snapshot()
    topology, refusal = read_topology(), ""
    try:
        setup = SlotSetup.create(policy, snapshot, topology)
        default_parallel = setup.default_max_parallel
    except NotHereError as exc:
        if not options.dry_run:
            raise
        refusal = str(exc)
        setup = SlotSetup(policy=policy, topology=topology)
        default_parallel = max(1, policy.num_gpus * policy.experiments_per_gpu)
    parallel = options.max_parallel or defaults.max_parallel or default_parallel
    return SlotChoice(setup=setup, probe=probe, snapshot=snapshot, max_parallel=parallel, refusal=refusal)


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
        mps=mps_runs(os.environ),
        said=_said(options, defaults),
    )


def _said(options: RunOptions, defaults: RunDefaults) -> dict[str, str]:
    """Words for what the description says and no flag overrides."""
    return {
        name: f"{defaults.name_of(name)}={getattr(defaults, name)} in the run description"
        for name in ("num_gpus", "experiments_per_gpu")
        if getattr(options, name) is None and getattr(defaults, name) is not None
    }


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)
