"""`--runner=processes` for the commands."""

from __future__ import annotations

from sf_runner.backends.local.backend import ProcessesBackend
from sf_runner.basics.paths import RunPaths
from sf_runner.cli.kind import BackendContext, BackendKind
from sf_runner.state.fold import RunState


class ProcessesKind(BackendKind):
    name = "processes"
    local = True

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
