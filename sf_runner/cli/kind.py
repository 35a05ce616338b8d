"""What the commands have to know of a backend, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sf_runner.backends.base import Backend, Launch
from sf_runner.basics.errors import UsageError
from sf_runner.basics.paths import RunPaths
from sf_runner.cli.options import RunOptions
from sf_runner.cli.slots import SlotChoice, choose_slots
from sf_runner.describe.plan import Plan
from sf_runner.engine.reconcile import slot_requests
from sf_runner.linux.lifeline import Lifeline
from sf_runner.slots.cores import read_topology
from sf_runner.slots.devices import GpuSnapshot
from sf_runner.slots.table import SlotSetup
from sf_runner.slots.types import LEAVE_ALONE, SlotPolicy, SlotRequest
from sf_runner.state.fold import RunState

_OF_THIS_MACHINE = (
    "num_gpus", "experiments_per_gpu", "gpus", "gpu_exclude_busy", "gpu_memory_per_experiment", "cpus_per_experiment",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class BackendContext:
    """What a backend may be made of. `state`: the run as it is before this start does anything."""

    options: RunOptions
    plan: Plan
    state: RunState
    lifeline: Lifeline | None = None


class BackendKind:
    """One value of `--runner`, which is its `name`. What is not overridden suits a backend whose attempts get the GPUs
    and cores that the runner hands out."""

    name: str
    local = False
    """Attempts are processes of this machine."""
    queues = False
    """Attempts wait in a queue of the backend after they were submitted."""
    records = False
    """Attempts write down themselves how they fare, also while no runner is there (see `engine/detached.py`)."""
    hands_over_all = False
    """Everything that is ready is handed over at once; the backend itself keeps to `max_parallel`."""

    def check(self, options: RunOptions, plan: Plan) -> None:
        """UsageError in one line when it cannot work here or a flag cannot be fulfilled. Touches nothing."""

    def choose_slots(self, options: RunOptions, plan: Plan) -> SlotChoice:
        """Devices and cores that the runner hands out, and how many experiments run side by side."""
        return choose_slots(options, plan.defaults)

    def slot_requests(self, plan: Plan) -> Mapping[str, SlotRequest]:
        """What each shape of job asks of those slots."""
        return slot_requests(plan)

    def make(self, context: BackendContext) -> Backend:
        """The backend of a start of the run."""
        raise NotImplementedError

    def reopen(self, paths: RunPaths, state: RunState) -> Backend:
        """The backend as far as it takes to find, watch and end what an earlier start left, without its flags."""
        raise NotImplementedError

    def preview(self, context: BackendContext, launches: Sequence[Launch]) -> Iterator[tuple[str, str]]:
        """What would be submitted for these attempts: (what it is, its exact text) each. Only asked of a backend that
        has a flag `print_only`."""
        raise NotImplementedError


class QueueKind(BackendKind):
    """GPUs and cores are handed out elsewhere, by a scheduler with a queue of its own."""

    queues = True

    def refuse_flags_of_this_machine(self, options: RunOptions, instead: str) -> None:
        """UsageError for a flag about the GPUs and cores of this machine."""
        for name in _OF_THIS_MACHINE:
            if getattr(options, name):
                raise UsageError(f"--{name} is about this machine; {instead}")

    def choose_slots(self, options: RunOptions, plan: Plan) -> SlotChoice:
        """As many as there are unless somebody wants fewer."""
        setup = SlotSetup(policy=SlotPolicy(num_gpus=0, experiments_per_gpu=LEAVE_ALONE), topology=read_topology())
        parallel = options.max_parallel or plan.defaults.max_parallel or max(1, len(plan.jobs))
        return SlotChoice(setup=setup, probe=None, snapshot=GpuSnapshot(), max_parallel=parallel)

    def slot_requests(self, plan: Plan) -> Mapping[str, SlotRequest]:
        return dict.fromkeys(slot_requests(plan), SlotRequest(gpus=0))
