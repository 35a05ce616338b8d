"""`--runner=processes` for the commands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sf_runner.backends.base import Launch
from sf_runner.backends.local.backend import ProcessesBackend
from sf_runner.basics.errors import UsageError
from sf_runner.basics.paths import RunPaths
from sf_runner.cli.kind import BackendContext
from sf_runner.cli.options import RunOptions
from sf_runner.cli.slots import SlotChoice, choose_slots
from sf_runner.describe.plan import Plan
from sf_runner.engine.reconcile import slot_requests
from sf_runner.slots.table import SlotRequest
from sf_runner.state.fold import RunState


class ProcessesKind:
    name = "processes"
    local = True
    queues = False
    hands_over_all = False

    def check(self, options: RunOptions, plan: Plan) -> None:
        """It works everywhere."""

    def choose_slots(self, options: RunOptions, plan: Plan) -> SlotChoice:
        return choose_slots(options, plan.defaults)

    def slot_requests(self, plan: Plan) -> Mapping[str, SlotRequest]:
        return slot_requests(plan)

    def make(self, context: BackendContext) -> ProcessesBackend:
        state, lifeline = context.state, context.lifeline
        # Of the last guardian `held` says exactly what it holds; others may still write a record.
        others = [handles for handles in state.guardians[:-1] if handles != state.guardians[-1]]
        return ProcessesBackend(
            state.run_id,
            recorders=[*state.runners[:-1], *(handle for handles in others for handle in handles)],
            held=lifeline.held if lifeline is not None else None,
            table=lifeline.table if lifeline is not None else None,
        )

    def reopen(self, paths: RunPaths, state: RunState) -> ProcessesBackend:
        guardians = [handle for handles in state.guardians for handle in handles]
        own = state.runners[:-1] if state.closed is None else state.runners
        return ProcessesBackend(state.run_id, recorders=[*own, *guardians])

    def preview(self, context: BackendContext, launches: Sequence[Launch]) -> Iterator[tuple[str, str]]:
        raise UsageError("--runner=processes submits nothing; --dry_run shows what it would start")
