"""A machine, and the launching side of a runner, in memory."""

from __future__ import annotations

from typing import Any

from sf_runner.describe.plan import Plan
from sf_runner.engine.reconcile import slot_requests
from sf_runner.engine.scheduler import Hold, Policy, Start, StartMemory, decide
from sf_runner.slots.cores import Core, CpuTopology
from sf_runner.slots.devices import GpuInfo, GpuSnapshot
from sf_runner.slots.gpu_memory import LearnedPeaks
from sf_runner.slots.placement import Placement
from sf_runner.slots.table import SlotSetup, SlotTable
from sf_runner.slots.types import SlotPolicy
from sf_runner.state.jobs import ACTIVE
from tests.runner.builders import end, fresh, start


def fake_gpus(count: int, memory_mb: int = 10_000) -> GpuSnapshot:
    infos = [
        GpuInfo(
            uuid=f"GPU-{index}",
            index=index,
            memory_total_mb=memory_mb,
            memory_free_mb=memory_mb,
            memory_used_mb=0,
            processes=(),
        )
        for index in range(count)
    ]
    return GpuSnapshot(gpus=tuple(infos))


def machine(
    *, gpus: int = 0, cpus: int = 8, memory_mb: int = 10_000, peaks: LearnedPeaks | None = None, **policy: Any
) -> SlotTable:
    snapshot = fake_gpus(gpus, memory_mb)
    topology = CpuTopology(cores=tuple(Core(cpus=(index,)) for index in range(cpus)))
    return SlotSetup.create(SlotPolicy(**policy), snapshot, topology).table(snapshot, peaks=peaks)


class Launching:
    """A state, a table and what the launching side remembers; starts what `decide` says."""

    def __init__(self, plan: Plan, table: SlotTable | None = None, *, max_parallel: int = 100, **policy: Any) -> None:
        self.state = fresh(plan, max_parallel=max_parallel)
        self.table = machine() if table is None else table
        self.requests = slot_requests(plan)
        self.policy = Policy(**policy)
        self.memory = StartMemory()

    def decide(self, now: float = 1.0) -> Start | Hold:
        self.state.release_delayed(now)
        return decide(self.state, self.table, self.requests, self.policy, self.memory, now)

    def start_all(self, now: float = 1.0) -> list[str]:
        """Start until something holds; the experiments of what was started."""
        started = []
        while isinstance(decision := self.decide(now), Start):
            self.take(decision, now)
            started.append(decision.job.job_id.split("_/")[0])
        return started

    def take(self, decision: Start, now: float = 1.0) -> None:
        start(self.state, decision.job.job_id, now, decision.placement.to_json())
        self.table = decision.table

    def finish(self, job: str, verdict: str = "succeeded", t: float = 2.0, **more: Any) -> None:
        state = self.state.jobs[job].state
        assert isinstance(state, ACTIVE)
        self.table = self.table.release(Placement.from_json(state.placement))
        end(self.state, job, verdict, t, **more)

    def finish_all(self) -> None:
        for job in list(self.state.active):
            self.finish(job)
