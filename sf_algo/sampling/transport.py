"""The shared memory and doorbells of a run with worker processes, as the main process holds them."""

from __future__ import annotations

import torch

from sf_algo.acting.hub import SplitPort
from sf_algo.buffers.layout import TrajectoryLayout
from sf_algo.buffers.shared import SharedBlock, slot_views, trajectory_specs
from sf_algo.ipc.control import ControlBlock
from sf_algo.ipc.doorbell import Doorbell
from sf_algo.plan import SamplerPlan
from sf_algo.processes.child import Lifeline
from sf_algo.processes.cuda import LockedBlocks


class Transport:
    """Owns every descriptor that workers inherit, and the ports through which the hub sees their splits."""

    def __init__(self, plan: SamplerPlan, layout: TrajectoryLayout, hub_bell: Doorbell, device: torch.device) -> None:
        """`hub_bell` belongs to the caller. `device`: where observations are copied to. Raises StorageError
        when the memory cannot be had."""
        self.control = ControlBlock.create(
            num_workers=plan.num_workers, num_splits=plan.num_splits, num_slots=plan.slots_per_split
        )
        self.hub_bell = hub_bell
        self.worker_bells = [Doorbell.create() for _ in range(plan.num_workers)]
        self.lifeline = Lifeline()
        specs = trajectory_specs(
            layout, slots=plan.num_splits * plan.slots_per_split, trajectories=plan.slot_trajectories
        )
        self.trajectories = [
            SharedBlock.create(f"sf_algo_trajectories_{worker}", specs) for worker in range(plan.num_workers)
        ]
        self._locked = LockedBlocks(device)
        self.slots_locked = self._locked.lock(self.trajectories)
        """Rows of slots go to the device from where they lie, while this process goes on."""
        self.ports = [port for worker in range(plan.num_workers) for port in self._ports_of(worker, plan)]

    def _ports_of(self, worker: int, plan: SamplerPlan) -> list[SplitPort]:
        slots = slot_views(self.trajectories[worker].arrays)
        return [
            SplitPort(
                mailbox=self.control.mailbox(worker, split),
                ring=self.control.ring(worker, split),
                slots=slots[split * plan.slots_per_split : (split + 1) * plan.slots_per_split],
                bell=self.worker_bells[worker],
            )
            for split in range(plan.num_splits)
        ]

    def order_stop(self) -> None:
        """Tell all workers to end."""
        self.control.order_stop()
        for bell in self.worker_bells:
            bell.ring()

    def close(self) -> None:
        """Close all descriptors, once no worker and no hub uses them; the memory goes with its last user."""
        for bell in self.worker_bells:
            bell.close()
        self.lifeline.close()
        self._locked.release()
        for block in self.trajectories:
            block.close_fd()
        self.control.close()
