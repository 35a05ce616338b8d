"""`--dry_run`: what would be started, where and how, without touching anything."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping

from sf_runner.cli.session import Prepared
from sf_runner.launching import LaunchBuilder
from sf_runner.placement import ANYWHERE
from sf_runner.reconcile import job_shape, ranks, slot_requests
from sf_runner.slots import NoRoom, SlotTable


def dry_run_lines(prepared: Prepared) -> Iterator[str]:
    """One block per job, in order of start; slots are shown for those that could start at once."""
    plan, slots = prepared.plan, prepared.slots
    launches = LaunchBuilder(plan.paths)
    requests = slot_requests(plan)
    order = ranks(plan, prepared.options.order, {})  # type: ignore[arg-type]  # checked by argparse
    table: SlotTable | None = slots.setup.table(slots.snapshot)
    yield f"run {plan.run_name}: {len(plan.jobs)} experiments in {plan.paths.root}, {slots.max_parallel} side by side"
    yield from (f"note: {text}" for text in slots.setup.notes)
    yield from (f"note: {warning.message}" for warning in slots.snapshot.warnings)
    for position, job in enumerate(sorted(plan.jobs, key=lambda job: order[job.job_id])):
        placement, where = ANYWHERE, "the next free slot"
        if table is not None and position < slots.max_parallel:
            placed = table.place(requests[job_shape(job)])
            if isinstance(placed, NoRoom):
                where = f"waits: {placed.reason}"
                table = None if placed.kind == "full" else table
            else:
                placement, table = placed.placement, placed.table
                where = placement.label or "anywhere"
        env = launches.environment(job, 1, placement, str(job.paths.progress.absolute()))
        yield ""
        yield f"{job.job_id}"
        yield f"  directory    {job.paths.experiment_dir}"
        yield f"  command      {job.command}"
        yield f"  slot         {where}"
        yield f"  environment  {_assignments(env)}"


def _assignments(env: Mapping[str, str]) -> str:
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in env.items())
