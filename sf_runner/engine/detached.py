"""A run whose experiments go on without a runner, as far as they write down themselves how they fare.

The journal has one writer, the runner; what it would write now is folded into a copy of the state, for people to see.
"""

from __future__ import annotations

from sf_runner.basics.clock import steady_s
from sf_runner.basics.paths import RunPaths
from sf_runner.engine.launching import known_attempts
from sf_runner.engine.outcomes import record_reports
from sf_runner.engine.scheduler import Policy
from sf_runner.state.fold import RunState

_LOOK_EVERY_S = 2.0


class DetachedRun:
    """Looks at most every two seconds."""

    def __init__(self, paths: RunPaths) -> None:
        self._paths = paths
        self._observer: object = None
        self._looked_at = float("-inf")
        self._seen: tuple[int, float] = (0, 0.0)
        self._shown: RunState | None = None

    def state(self, state: RunState, now: float) -> RunState:
        """The state with what happened since; the same one where nothing can have happened."""
        opened = state.opened
        if not state.active or opened is None or not opened.records:
            return state
        seen = (id(state), state.last_event_at)
        steady = steady_s()
        if self._shown is None or seen != self._seen or steady - self._looked_at >= _LOOK_EVERY_S:
            self._seen, self._looked_at = seen, steady
            self._shown = self._look(state, now)
        return self._shown

    def _look(self, state: RunState, now: float) -> RunState:
        from sf_runner.backends.slurm.observe import Observer

        if not isinstance(self._observer, Observer):
            self._observer = Observer(self._paths.slurm_dir)
        shown = state.branch()
        policy = Policy(max_retries=state.max_retries)
        reports = self._observer.look(known_attempts(state, self._paths))
        record_reports(reports, shown.jobs, lambda record: self._paths.job(record.job_id), policy, shown.apply, now=now)
        return shown
